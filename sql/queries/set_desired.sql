-- Changes what is wanted of a cluster; no row if there is none.
-- $1 name, $2 desired state, $3 who declares, if it is not the session's own
WITH me AS (SELECT set_config('kindler.actor', coalesce($3, current_setting('kindler.actor', true), ''), true))
UPDATE clusters c SET desired_state = $2 FROM me WHERE c.name = $1 RETURNING {cluster}
