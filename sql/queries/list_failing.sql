-- Failed clusters and their next attempts, soonest first. For status.
-- $1 limit
SELECT name, coalesce(status_reason, '') AS reason, coalesce(status_message, '') AS message,
       failed_attempts, next_attempt_at
FROM clusters
WHERE failed_attempts > 0 OR actual_state = 'failed'
ORDER BY next_attempt_at NULLS FIRST, name
LIMIT $1
