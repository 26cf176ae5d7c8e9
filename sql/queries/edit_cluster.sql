-- Changes some of what is declared of a cluster; no row if there is none, or
-- if it is of another generation by now.
-- :generation the one that was read, if it matters, :spec the fields that change,
-- :labels to add, change or (null) remove, :declarer who declares, if it is not the session's own
WITH me AS (SELECT set_config('kindler.actor', coalesce(:declarer, current_setting('kindler.actor', true), ''), true)),
d AS (SELECT :spec::jsonb AS spec)
UPDATE clusters c
SET {spec_changes},
    labels = CASE WHEN :labels::jsonb IS NULL THEN c.labels ELSE jsonb_strip_nulls(c.labels || :labels) END,
    paused = coalesce(:paused, c.paused), desired_state = coalesce(:desired, c.desired_state)
FROM me, d, jsonb_to_record(d.spec) AS s ({spec_record})
WHERE c.name = :name AND c.generation = coalesce(:generation, c.generation)
RETURNING {cluster}
