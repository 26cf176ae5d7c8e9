-- Creates a token; no row if an unrevoked token of the name exists.
-- $1 name, $2 SHA-256 of the token, $3 scope, $4 lifetime in seconds, null: unlimited
INSERT INTO kindler_tokens (name, hash, scope, expires_at)
VALUES ($1, $2, $3, now() + $4 * interval '1 second')
ON CONFLICT (name) WHERE revoked_at IS NULL DO NOTHING
RETURNING name, scope, created_at, created_by, expires_at, last_used_at, revoked_at, revoked_by, 'live' AS state
