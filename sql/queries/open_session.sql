-- Creates a login session for a valid token. Also deletes expired sessions and the
-- oldest ones above the limit of the token.
-- $1 the token's ID, $2 SHA-256 of the cookie, $3 lifetime in seconds, $4 limit per token
WITH forgotten AS (
    DELETE FROM kindler_sessions
    WHERE expires_at <= now()
       OR hash IN (SELECT hash FROM kindler_sessions WHERE token_id = $1
                   ORDER BY created_at DESC OFFSET greatest($4::bigint - 1, 0)))
INSERT INTO kindler_sessions (hash, token_id, expires_at)
SELECT $2, id, least(now() + $3 * interval '1 second', expires_at)
FROM kindler_tokens WHERE id = $1 AND revoked_at IS NULL AND coalesce(expires_at > now(), true)
