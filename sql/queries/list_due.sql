-- The full pass: what is due now or within the horizon, is this daemon's to work
-- on and nobody works on, oldest first. Its cost grows with what is due, not with
-- the table (index clusters_due; now() and not clock_timestamp(), because only a
-- stable function can bound an index scan).
-- $1 horizon in seconds, $2 at most so many, $3 for which clusters this daemon works
SELECT c.name,
       CASE WHEN c.due_at <= now() THEN 0 ELSE extract(epoch FROM c.due_at - now()) END::float8 AS in_seconds
FROM clusters c
WHERE c.due_at <= now() + make_interval(secs => $1)
  AND kindler_takes($3::jsonb, c.placed_by, c.labels)
  AND NOT EXISTS (
      SELECT FROM cluster_leases l WHERE l.cluster_name = c.name AND l.expires_at > now())
ORDER BY c.due_at, c.created_at
LIMIT $2
