-- The last removal of a row of this name: its time and the UID of the row.
-- $1 name
SELECT at, uid FROM cluster_events WHERE cluster_name = $1 AND kind = 'removed' ORDER BY id DESC LIMIT 1
