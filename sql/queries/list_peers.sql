-- A few other clusters of this daemon that should run, those looked at last
-- first: asked whether it is one cluster that is ill, or the host.
-- $1 not these, $2 at most so many, $3 for which clusters this daemon works
SELECT {cluster} FROM clusters c
WHERE c.desired_state = 'present' AND c.actual_state = 'running' AND NOT c.paused AND NOT c.protected
  AND c.name <> ALL ($1::text[])
  AND kindler_takes($3::jsonb, c.placed_by, c.labels)
ORDER BY c.due_at DESC
LIMIT $2
