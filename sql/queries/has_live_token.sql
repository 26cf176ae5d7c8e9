-- Whether any valid token exists.
SELECT EXISTS (SELECT FROM kindler_tokens WHERE revoked_at IS NULL AND coalesce(expires_at > now(), true)) AS found
