-- Revokes a token and deletes its sessions; no row if no unrevoked token has the name.
-- $1 name
WITH revoked AS (
    UPDATE kindler_tokens SET revoked_at = now(), revoked_by = kindler_actor()
    WHERE name = $1 AND revoked_at IS NULL
    RETURNING *),
ended AS (DELETE FROM kindler_sessions s USING revoked r WHERE s.token_id = r.id)
SELECT name, scope, created_at, created_by, expires_at, last_used_at, revoked_at, revoked_by, 'revoked' AS state
FROM revoked
