-- The input of the cap on deletions: which deletions began within the last minute,
-- whether this one was counted already, and how many wait before and behind it. The
-- deletions of all daemons count. The queue has only clusters of the same placement;
-- otherwise clusters without a live daemon would block the others. The bound uses
-- now() and not clock_timestamp(), because only a stable function can bound an index
-- scan; the caller drops older entries.
-- $1 name, $2 generation, $3 selector of this daemon
WITH waiting AS (
    SELECT c.name, coalesce(c.absent_since, timestamptz '-infinity') AS since
    FROM clusters c
    WHERE c.status_reason = 'DeletionHeld' AND c.desired_state = 'absent' AND c.name <> $1
      AND NOT c.paused AND NOT c.protected AND kindler_takes($3::jsonb, c.placed_by, c.labels)
), me AS (
    SELECT name, coalesce(absent_since, timestamptz '-infinity') AS since FROM clusters WHERE name = $1
)
SELECT clock_timestamp() AS read_at,
       EXISTS (SELECT FROM cluster_deletions WHERE cluster_name = $1 AND generation = $2) AS counted,
       ARRAY(SELECT begun_at FROM cluster_deletions
             WHERE begun_at > now() - interval '1 minute' ORDER BY begun_at) AS begun,
       (SELECT count(*) FROM waiting w, me WHERE (w.since, w.name) < (me.since, me.name)) AS ahead,
       (SELECT count(*) FROM waiting w, me WHERE (w.since, w.name) > (me.since, me.name)) AS behind
