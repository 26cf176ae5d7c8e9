-- Changes the desired state of a cluster; no row if it does not exist or has another
-- generation.
-- $1 name, $2 desired state, $3 expected generation, null: any,
-- $4 who declares it; null: the actor of the session
WITH me AS (SELECT set_config('kindler.actor', coalesce($4, current_setting('kindler.actor', true), ''), true))
UPDATE clusters c SET desired_state = $2 FROM me
WHERE c.name = $1 AND c.generation = coalesce($3, c.generation)
RETURNING {cluster}
