-- The newest events of a name after an ID, oldest first: of all rows, or of one.
-- $1 name, $2 after this ID, $3 limit, $4 the removal before the row, null: all rows, $5 the row's UID
SELECT * FROM (
    SELECT id, uid, at, kind, actor, generation, term, from_state, to_state, attempt, reason, message, error, change
    FROM cluster_events
    WHERE cluster_name = $1 AND id > $2 AND ($4::bigint IS NULL OR uid = $5 OR uid IS NULL AND id > $4)
    ORDER BY id DESC LIMIT $3
) newest ORDER BY id
