-- Says that a token was used, at most once a minute, however many ask.
-- $1 the token's id
UPDATE kindler_tokens SET last_used_at = now()
WHERE id = $1 AND coalesce(last_used_at < now() - interval '1 minute', true)
