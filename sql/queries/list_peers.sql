-- Other clusters of this daemon that should run, those without failed probes first, and of
-- these the most recently healthy. Their health shows whether one cluster is unhealthy or the host has a fault. This daemon cannot
-- observe clusters of another driver.
-- $1 names to exclude, $2 limit, $3 selector of this daemon, $4 its driver
SELECT {cluster} FROM clusters c
WHERE c.desired_state = 'present' AND c.actual_state = 'running' AND NOT c.paused AND NOT c.protected
  AND c.name <> ALL ($1::text[])
  AND kindler_takes($3::jsonb, c.placed_by, c.labels)
  AND coalesce(c.driver, $4) = $4
  AND NOT EXISTS (SELECT FROM cluster_steps s
                  WHERE s.uid = c.uid AND s.driver <> $4 AND s.state NOT IN ('pending', 'skipped', 'removed'))
ORDER BY c.health_failures, c.last_healthy_at DESC NULLS LAST, c.name
LIMIT $2
