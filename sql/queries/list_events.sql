-- The newest events of a name after an id, oldest first: all, or those of one row.
-- $1 name, $2 after this id, $3 at most so many, $4 the removal before the row; null for all, $5 its uid
SELECT * FROM (
    SELECT id, uid, at, kind, actor, generation, term, from_state, to_state, attempt, reason, message, error, change
    FROM cluster_events
    WHERE cluster_name = $1 AND id > $2 AND ($4::bigint IS NULL OR uid = $5 OR uid IS NULL AND id > $4)
    ORDER BY id DESC LIMIT $3
) newest ORDER BY id
