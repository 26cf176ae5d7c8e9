-- Which part of a name's history belongs to its current row or, if there is none, to
-- its last one: everything with the row's UID, and of what an earlier release wrote
-- without a UID, everything after the removal of the previous row.
-- $1 name
WITH current_row AS (
    SELECT uid FROM clusters WHERE name = $1
), newest AS (
    SELECT id, uid FROM cluster_events WHERE cluster_name = $1 ORDER BY id DESC LIMIT 1
), before AS (
    SELECT id, generation FROM cluster_events
    WHERE cluster_name = $1 AND kind = 'removed'
      AND (EXISTS (SELECT FROM current_row) OR id < (SELECT id FROM newest))
    ORDER BY id DESC LIMIT 1
)
SELECT CASE WHEN EXISTS (SELECT FROM current_row) THEN (SELECT uid FROM current_row) ELSE (SELECT uid FROM newest) END AS uid,
       coalesce((SELECT id FROM before), 0) AS after_event,
       coalesce((SELECT generation FROM before), 0) AS after_generation
