-- The login sessions whose hash has this prefix, with their tokens: at most one in
-- practice. The caller compares the whole hash. A session ends with its token.
-- $1 the first 8 bytes of the hash
SELECT t.id, t.name, t.scope, s.hash,
       CASE WHEN t.revoked_at IS NOT NULL THEN 'revoked'
            WHEN s.expires_at <= now() OR t.expires_at <= now() THEN 'expired' ELSE 'live' END AS state,
       coalesce(t.last_used_at < now() - interval '1 minute', true) AS use_unrecorded
FROM kindler_sessions s JOIN kindler_tokens t ON t.id = s.token_id
WHERE substring(s.hash FROM 1 FOR 8) = $1
