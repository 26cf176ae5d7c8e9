-- When a row first reached what a generation or a later one declares.
-- $1 name, $2 UID of the row, $3 generation
SELECT min(at) AS at FROM cluster_events
WHERE cluster_name = $1 AND uid = $2 AND generation >= $3 AND to_state IN ('running', 'stopped')
  AND from_state <> to_state
