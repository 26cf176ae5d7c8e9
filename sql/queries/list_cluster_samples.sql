-- The values of every cluster for metrics.
SELECT c.name, c.provider, c.desired_state, c.actual_state, c.status_reason AS reason, c.paused, c.protected,
       c.observed_generation = c.generation AS reached,
       coalesce(c.observed_spec_hash = c.spec_hash, false) AS spec_applied,
       EXISTS (SELECT FROM cluster_steps s WHERE s.uid = c.uid AND s.state NOT IN ('done', 'skipped')) AS steps_left,
       c.flaps,
       extract(epoch FROM c.created_at::timestamptz)::float8 AS created,
       extract(epoch FROM coalesce(r.at, c.updated_at::timestamptz))::float8 AS declared,
       extract(epoch FROM c.last_reconciled_at)::float8 AS reconciled,
       extract(epoch FROM clock_timestamp() - c.last_reconciled_at)::float8 AS reconciled_age,
       c.health_failures
FROM clusters c
LEFT JOIN cluster_revisions r ON r.cluster_name = c.name AND r.generation = c.generation
ORDER BY c.name
