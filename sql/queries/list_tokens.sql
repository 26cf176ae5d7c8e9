-- Every token, unrevoked ones first; never a hash.
SELECT name, scope, created_at, created_by, expires_at, last_used_at, revoked_at, revoked_by,
       CASE WHEN revoked_at IS NOT NULL THEN 'revoked' WHEN expires_at <= now() THEN 'expired' ELSE 'live' END AS state
FROM kindler_tokens
ORDER BY revoked_at IS NOT NULL, name, created_at DESC
