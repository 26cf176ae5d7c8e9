-- Pauses or resumes a cluster; no row if there is none, or if it is of another
-- generation by now.
-- $1 name, $2 paused, $3 the generation that was read, if it matters,
-- $4 who declares, if it is not the session's own
WITH me AS (SELECT set_config('kindler.actor', coalesce($4, current_setting('kindler.actor', true), ''), true))
UPDATE clusters c SET paused = $2 FROM me
WHERE c.name = $1 AND c.generation = coalesce($3, c.generation)
RETURNING {cluster}
