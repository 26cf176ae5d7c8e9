-- The values of failing clusters for metrics, most consecutive failures first.
-- $1 limit
SELECT name, status_reason AS reason, failed_attempts, paused,
       extract(epoch FROM next_attempt_at)::float8 AS next_attempt
FROM clusters
WHERE failed_attempts > 0 OR actual_state = 'failed'
ORDER BY failed_attempts DESC, name
LIMIT $1
