-- The valid ones of these tokens and login sessions.
-- $1 IDs of tokens, $2 hashes of sessions
SELECT t.id, NULL::bytea AS hash
FROM kindler_tokens t
WHERE t.id = ANY ($1) AND t.revoked_at IS NULL AND coalesce(t.expires_at > now(), true)
UNION ALL
SELECT t.id, s.hash
FROM kindler_sessions s JOIN kindler_tokens t ON t.id = s.token_id
WHERE s.hash = ANY ($2) AND s.expires_at > now() AND t.revoked_at IS NULL AND coalesce(t.expires_at > now(), true)
