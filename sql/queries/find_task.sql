-- The revision of a task, with the removal of its row or else the row. A revision of
-- an earlier release has no UID: the first removal after it is that of its row.
-- $1 task ID
SELECT r.cluster_name AS task_cluster, r.uid AS task_uid, r.generation AS task_generation,
       r.desired_state AS task_desired, r.at AS task_at, gone.at AS removed_at, {cluster}
FROM cluster_revisions r
LEFT JOIN LATERAL (
    SELECT e.at FROM cluster_events e
    WHERE e.cluster_name = r.cluster_name AND e.kind = 'removed'
      AND (e.uid = r.uid OR r.uid IS NULL AND e.generation >= r.generation)
    ORDER BY e.id LIMIT 1) gone ON true
LEFT JOIN clusters c ON c.name = r.cluster_name AND gone.at IS NULL AND c.uid = coalesce(r.uid, c.uid)
WHERE r.task_id = $1::text::uuid
