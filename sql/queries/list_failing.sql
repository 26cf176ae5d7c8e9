-- Failed clusters, those in repair or flapping, and their next attempts, soonest first. For status.
-- $1 limit
SELECT name, coalesce(status_reason, '') AS reason, coalesce(status_message, '') AS message,
       failed_attempts, next_attempt_at, reconcile_error AS error
FROM clusters
WHERE failed_attempts > 0 OR actual_state = 'failed' OR status_reason = 'Flapping'
   OR (actual_state = 'restarting' AND reconcile_error IS NOT NULL)
ORDER BY next_attempt_at NULLS FIRST, name
LIMIT $1
