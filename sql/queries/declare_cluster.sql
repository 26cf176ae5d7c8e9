-- Declares a new cluster; no row if the name is taken.
-- :spec every field of the spec, :actor who declares it; null: the actor of the session
WITH me AS (SELECT set_config('kindler.actor', coalesce(:actor, current_setting('kindler.actor', true), ''), true))
INSERT INTO clusters AS c (name, {spec_columns}, labels, desired_state, paused)
SELECT :name, {spec_values}, :labels, :desired, :paused
FROM me, jsonb_to_record(:spec::jsonb) AS s ({spec_record})
ON CONFLICT (name) DO NOTHING
RETURNING {cluster}
