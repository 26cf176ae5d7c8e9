-- The tokens whose hash has this prefix: at most one in practice. The caller compares
-- the whole hash.
-- $1 the first 8 bytes of the hash
SELECT id, name, scope, hash,
       CASE WHEN revoked_at IS NOT NULL THEN 'revoked' WHEN expires_at <= now() THEN 'expired' ELSE 'live' END AS state,
       coalesce(last_used_at < now() - interval '1 minute', true) AS use_unrecorded
FROM kindler_tokens WHERE substring(hash FROM 1 FOR 8) = $1
