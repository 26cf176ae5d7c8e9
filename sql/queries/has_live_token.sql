-- Whether anybody could call the API with a token.
SELECT EXISTS (SELECT FROM kindler_tokens WHERE revoked_at IS NULL AND coalesce(expires_at > now(), true)) AS found
