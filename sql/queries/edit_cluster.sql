-- Changes a declared cluster; no row if it does not exist or has another generation.
-- :generation the expected one, null: any, :spec the fields that change,
-- :labels to add, change or (null) remove, :actor who declares it; null: the actor of the session
WITH me AS (SELECT set_config('kindler.actor', coalesce(:actor, current_setting('kindler.actor', true), ''), true)),
d AS (SELECT :spec::jsonb AS spec)
UPDATE clusters c
SET {spec_changes},
    labels = CASE WHEN :labels::jsonb IS NULL THEN c.labels ELSE jsonb_strip_nulls(c.labels || :labels) END,
    paused = coalesce(:paused, c.paused), desired_state = coalesce(:desired, c.desired_state)
FROM me, d, jsonb_to_record(d.spec) AS s ({spec_record})
WHERE c.name = :name AND c.generation = coalesce(:generation, c.generation)
RETURNING {cluster}
