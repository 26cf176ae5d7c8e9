-- Lets a row take over the cluster of its name; a trigger resets the failure count and
-- sends a notification. No row if the cluster does not exist or has another generation.
-- $1 name, $2 expected generation, null: any,
-- $3 who declares it; null: the actor of the session
WITH me AS (SELECT set_config('kindler.actor', coalesce($3, current_setting('kindler.actor', true), ''), true))
UPDATE clusters c SET adopt_requested_at = clock_timestamp() FROM me
WHERE c.name = $1 AND c.generation = coalesce($2, c.generation)
RETURNING {cluster}
