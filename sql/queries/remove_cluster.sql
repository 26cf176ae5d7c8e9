-- Removes the row of a cluster that is verified gone, under its fence, and
-- only while it is declared absent and not placed elsewhere. The setting shows the
-- fence to the guard on DELETE; it ends with the statement.
-- $1 name, $2 term, $3 generation, $4 the place of this daemon, if it has one
DELETE FROM clusters c
USING cluster_leases l
WHERE c.name = $1 AND c.generation = $3 AND c.desired_state = 'absent'
  AND ($4::text IS NULL OR coalesce(c.placed_by, $4) = $4)
  AND l.cluster_name = c.name AND l.term = $2 AND l.expires_at > clock_timestamp()
  AND set_config('kindler.fence', $2::bigint::text, true) IS NOT NULL
