-- Clusters that no live daemon selects, except paused and protected ones. Daemons on
-- standby do not count; without any live daemon the list is empty. Placed clusters are
-- found by their placement; for the others each set of labels is evaluated once,
-- because many clusters have the same labels.
-- $1 seconds without a heartbeat after which a daemon counts as gone, $2 only this cluster,
-- $3 limit
WITH live AS (
    SELECT DISTINCT selector FROM kindler_replicas
    WHERE seen_at > clock_timestamp() - make_interval(secs => $1) AND NOT aside
), unmatched AS (
    SELECT labels FROM (SELECT DISTINCT labels FROM clusters WHERE placed_by IS NULL) AS any_labels
    WHERE NOT EXISTS (SELECT FROM live WHERE kindler_matches(live.selector -> 'requirements', labels))
)
SELECT c.name, c.placed_by, count(*) OVER () AS total
FROM clusters c
WHERE EXISTS (SELECT FROM live) AND NOT EXISTS (SELECT FROM live WHERE selector IS NULL)
  AND NOT c.paused AND NOT c.protected AND ($2::text IS NULL OR c.name = $2)
  AND CASE WHEN c.placed_by IS NULL THEN c.labels IN (SELECT labels FROM unmatched)
           ELSE c.placed_by <> ALL (ARRAY(SELECT live.selector ->> 'place' FROM live)) END
ORDER BY c.name LIMIT $3
