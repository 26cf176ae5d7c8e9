-- When the last row of a name was removed, and which it was.
-- $1 name
SELECT at, uid FROM cluster_events WHERE cluster_name = $1 AND kind = 'removed' ORDER BY id DESC LIMIT 1
