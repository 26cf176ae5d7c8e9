-- Asks for an attempt, or a check, at once; the trigger starts the count of
-- failures over and rings.
-- $1 name
UPDATE clusters c SET retry_requested_at = clock_timestamp() WHERE c.name = $1 RETURNING {cluster}
