-- The declared specs of a name, newest first: of all rows, or of one.
-- $1 name, $2 the generation removed before the row, null: all rows, $3 the row's UID
SELECT generation, uid, at, actor, desired_state, spec, task_id::text AS task_id
FROM cluster_revisions
WHERE cluster_name = $1 AND ($2::bigint IS NULL OR uid = $3 OR uid IS NULL AND generation > $2)
ORDER BY generation DESC LIMIT 500
