-- Removes a row whose object is verified absent, under its fence, and only while it is
-- declared absent and not placed elsewhere. The setting shows the fence to the trigger
-- that guards DELETE; it ends with the transaction.
-- $1 key, $2 uid, $3 owner, $4 term, $5 generation, $6 the placement of this owner, if it has one
DELETE FROM {table} {t}
USING {leases} l
WHERE {t}.{key} = $1 AND {t}.uid = $2 AND {t}.generation = $5 AND {removable}
  AND ($6::text IS NULL OR {placed})
  AND l.{lease_key} = {t}.{key} AND l.uid = $2 AND l.owner = $3 AND l.term = $4
  AND l.expires_at > clock_timestamp()
  AND set_config('kindler.fence', $4::bigint::text, true) IS NOT NULL
