-- The newest events of a cluster after an id, oldest first.
-- $1 name, $2 after this id, $3 at most so many
SELECT * FROM (
    SELECT id, at, kind, actor, generation, term, from_state, to_state, attempt, reason, message, error, change
    FROM cluster_events WHERE cluster_name = $1 AND id > $2 ORDER BY id DESC LIMIT $3
) newest ORDER BY id
