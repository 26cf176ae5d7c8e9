-- The newest events of all clusters or of one, newest first.
-- $1 cluster, $2 actor, $3 kinds, $4 only before this ID, $5 limit, $6 only after this ID,
-- $7 the removal before the row of $1, null: every row of the name, $8 the row's UID
SELECT id, cluster_name, uid, at, kind, actor, generation, term, from_state, to_state, attempt, reason, message, error, change
FROM cluster_events
WHERE ($1::text IS NULL OR cluster_name = $1)
  AND ($2::text IS NULL OR actor = $2)
  AND ($3::text[] IS NULL OR kind = ANY ($3))
  AND ($4::bigint IS NULL OR id < $4)
  AND ($6::bigint IS NULL OR id > $6)
  AND ($7::bigint IS NULL OR uid = $8 OR uid IS NULL AND id > $7)
ORDER BY id DESC
LIMIT $5
