-- Each spec of a name as it was declared, newest first: all, or those of one row.
-- $1 name, $2 the generation that was removed before the row; null for all, $3 its uid
SELECT generation, uid, at, actor, desired_state, spec, task_id::text AS task_id
FROM cluster_revisions
WHERE cluster_name = $1 AND ($2::bigint IS NULL OR uid = $3 OR uid IS NULL AND generation > $2)
ORDER BY generation DESC LIMIT 500
