-- Pauses or resumes a cluster; no row if there is none.
-- $1 name, $2 paused
UPDATE clusters c SET paused = $2 WHERE c.name = $1 RETURNING {cluster}
