-- Makes a token; no row if one of this name is there that was not revoked.
-- $1 name, $2 SHA-256 of the token, $3 scope, $4 how many seconds it lives, or for ever
INSERT INTO kindler_tokens (name, hash, scope, expires_at)
VALUES ($1, $2, $3, now() + $4 * interval '1 second')
ON CONFLICT (name) WHERE revoked_at IS NULL DO NOTHING
RETURNING name, scope, created_at, created_by, expires_at, last_used_at, revoked_at, revoked_by, 'live' AS state
