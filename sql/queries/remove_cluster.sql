-- Removes the row of a cluster that is verified gone, under its fence, and
-- only while it is declared absent. The setting shows the fence to the guard
-- on DELETE; it ends with the statement.
-- $1 name, $2 term, $3 generation
DELETE FROM clusters c
USING cluster_leases l
WHERE c.name = $1 AND c.generation = $3 AND c.desired_state = 'absent'
  AND l.cluster_name = c.name AND l.term = $2 AND l.expires_at > clock_timestamp()
  AND set_config('kindler.fence', $2::bigint::text, true) IS NOT NULL
