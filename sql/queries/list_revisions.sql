-- Each spec of a cluster as it was declared, newest first.
-- $1 name
SELECT generation, at, actor, desired_state, spec, task_id::text AS task_id
FROM cluster_revisions WHERE cluster_name = $1 ORDER BY generation DESC LIMIT 500
