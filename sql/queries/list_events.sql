-- The newest events of a name after an ID, oldest first: of all rows, or of one.
-- :removal the removal before the row, null: all rows, :uid the row's UID
SELECT * FROM (
    SELECT id, uid, at, kind, actor, generation, term, from_state, to_state, attempt, reason, message, error, change
    FROM cluster_events
    WHERE cluster_name = :name AND id > :after AND (:removal::bigint IS NULL OR uid = :uid OR uid IS NULL AND id > :removal)
    ORDER BY id DESC LIMIT :limit
) newest ORDER BY id
