-- The values of failing clusters for metrics, with those in repair or with flaps, most
-- consecutive failures first.
-- $1 limit
SELECT name, status_reason AS reason, failed_attempts, flaps, paused,
       extract(epoch FROM next_attempt_at)::float8 AS next_attempt
FROM clusters
WHERE failed_attempts > 0 OR actual_state = 'failed' OR flaps > 0
   OR (actual_state = 'restarting' AND reconcile_error IS NOT NULL)
ORDER BY failed_attempts DESC, name
LIMIT $1
