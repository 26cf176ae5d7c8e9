-- The deletions that the cap defers, with their positions in the queue of the daemons that take
-- them, and when the deletions of the last minute began. As read_deletion_queue.sql, for all.
-- Only the first thousand of each queue: a later one reads its message in its row.
-- $1 seconds without a heartbeat after which a daemon counts as gone
WITH live AS (
    SELECT selector, min((workload ->> 'delete_cap')::bigint) AS cap FROM kindler_replicas
    WHERE seen_at > clock_timestamp() - make_interval(secs => $1) AND NOT aside GROUP BY selector
)
SELECT name, cap, position, clock_timestamp() AS read_at,
       ARRAY(SELECT begun_at FROM cluster_deletions
             WHERE begun_at > now() - interval '1 minute' ORDER BY begun_at) AS begun
FROM (SELECT c.name, live.cap, row_number() OVER (
          PARTITION BY live.selector ORDER BY coalesce(c.absent_since, timestamptz '-infinity'), c.name) AS position
      FROM clusters c JOIN live ON kindler_takes(live.selector, c.placed_by, c.labels)
      WHERE c.status_reason = 'DeletionHeld' AND c.desired_state = 'absent'
        AND NOT c.paused AND NOT c.protected AND live.cap > 0) AS queues
WHERE position <= 1000
