-- The newest events of all clusters or of one, newest first.
-- :before, :after IDs, :removal the removal before the row of :cluster, null: every row
-- of the name, :uid the row's UID
SELECT id, cluster_name, uid, at, kind, actor, generation, term, from_state, to_state, attempt, reason, message, error, change
FROM cluster_events
WHERE (:cluster::text IS NULL OR cluster_name = :cluster)
  AND (:actor::text IS NULL OR actor = :actor)
  AND (:kinds::text[] IS NULL OR kind = ANY (:kinds))
  AND (:before::bigint IS NULL OR id < :before)
  AND (:after::bigint IS NULL OR id > :after)
  AND (:removal::bigint IS NULL OR uid = :uid OR uid IS NULL AND id > :removal)
ORDER BY id DESC
LIMIT :limit
