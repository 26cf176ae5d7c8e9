-- What failed last and when it is tried next, soonest first; and how many
-- wait undue. For metrics and status.
-- $1 at most so many
SELECT name, coalesce(status_reason, '') AS reason, coalesce(status_message, '') AS message,
       failed_attempts, next_attempt_at
FROM clusters
WHERE failed_attempts > 0 OR actual_state = 'failed'
ORDER BY next_attempt_at NULLS FIRST, name
LIMIT $1
