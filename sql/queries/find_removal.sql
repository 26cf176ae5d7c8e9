-- When a cluster that is not there was last removed.
-- $1 name
SELECT at FROM cluster_events WHERE cluster_name = $1 AND kind = 'removed' ORDER BY id DESC LIMIT 1
