-- Asks for an attempt, or a check, at once; the trigger starts the count of
-- failures over and rings. No row if there is no such cluster, or if it is of
-- another generation by now.
-- $1 name, $2 the generation that was read, if it matters,
-- $3 who asks, if it is not the session's own
WITH me AS (SELECT set_config('kindler.actor', coalesce($3, current_setting('kindler.actor', true), ''), true))
UPDATE clusters c SET retry_requested_at = clock_timestamp() FROM me
WHERE c.name = $1 AND c.generation = coalesce($2, c.generation)
RETURNING {cluster}
