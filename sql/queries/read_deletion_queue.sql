-- What the cap on deletions judges by: which deletions were begun lately,
-- whether this one was counted before, and how many wait before and behind it.
-- All that were begun count, whoever began them; only those wait in one line that
-- the same daemons work on, or a place without a daemon would hold up the others.
-- now() and not clock_timestamp() in the bound, because only a stable function
-- can bound an index scan; the reader cuts off what is older.
-- $1 name, $2 generation, $3 for which clusters this daemon works
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
