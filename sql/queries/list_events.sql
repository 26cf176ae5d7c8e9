-- The newest events of a name after an id, oldest first: all, or those of one row.
-- :after an id; :removal the removal before the row, null for all; :uid its uid
SELECT * FROM (
    SELECT id, uid, at, kind, actor, generation, term, from_state, to_state, attempt, reason, message, error, change
    FROM cluster_events
    WHERE cluster_name = :name AND id > :after AND (:removal::bigint IS NULL OR uid = :uid OR uid IS NULL AND id > :removal)
    ORDER BY id DESC LIMIT :limit
) newest ORDER BY id
