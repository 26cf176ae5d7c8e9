-- Removes a row whose object is verified absent, under the fence, and only while it is
-- declared absent and not placed elsewhere. The setting gives the term to the trigger on
-- DELETE; it ends with the transaction. The commit is durable.
-- :place the placement of this owner, if it has one
DELETE FROM {table} {t}
USING {leases} l
WHERE {t}.{key} = :key AND {t}.uid = :uid AND {t}.generation = :generation AND {removable}
  AND ({place} IS NULL OR {placed})
  AND l.{lease_key} = {t}.{key} AND l.uid = :uid AND l.owner = :owner AND l.term = :term
  AND l.expires_at > clock_timestamp()
  AND set_config('kindler.fence', :term::bigint::text, true) IS NOT NULL AND {durable}
