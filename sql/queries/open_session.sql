-- Begins a login with a live token, and forgets logins that are over or that
-- are too many for one token.
-- $1 the token's id, $2 SHA-256 of the cookie, $3 how many seconds it lives at
-- most, $4 how many a token may have
WITH forgotten AS (
    DELETE FROM kindler_sessions
    WHERE expires_at <= now()
       OR hash IN (SELECT hash FROM kindler_sessions WHERE token_id = $1
                   ORDER BY created_at DESC OFFSET greatest($4::bigint - 1, 0)))
INSERT INTO kindler_sessions (hash, token_id, expires_at)
SELECT $2, id, least(now() + $3 * interval '1 second', expires_at)
FROM kindler_tokens WHERE id = $1 AND revoked_at IS NULL AND coalesce(expires_at > now(), true)
