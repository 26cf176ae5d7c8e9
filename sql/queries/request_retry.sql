-- Asks for an attempt, or a check, at once; the trigger starts the count of
-- failures over and rings.
-- $1 name, $2 who asks, if it is not the session's own
WITH me AS (SELECT set_config('kindler.actor', coalesce($2, current_setting('kindler.actor', true), ''), true))
UPDATE clusters c SET retry_requested_at = clock_timestamp() FROM me WHERE c.name = $1 RETURNING {cluster}
