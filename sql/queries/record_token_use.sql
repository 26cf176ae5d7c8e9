-- Records the use of a token, at most once a minute.
-- $1 the token's ID
UPDATE kindler_tokens SET last_used_at = now()
WHERE id = $1 AND coalesce(last_used_at < now() - interval '1 minute', true)
