-- Failed clusters, those in repair or flapping, and their next attempts, soonest first. For status.
-- $1 limit
SELECT name, CASE WHEN status_reason ~ '\S' THEN status_reason ELSE 'Declared' END AS reason,
       CASE WHEN status_message ~ '\S' THEN status_message ELSE 'recorded as ' || actual_state || ', without a reason' END AS message,
       failed_attempts, next_attempt_at, reconcile_error AS error
FROM clusters
WHERE failed_attempts > 0 OR actual_state = 'failed' OR status_reason = 'Flapping'
   OR (actual_state = 'restarting' AND reconcile_error IS NOT NULL)
ORDER BY next_attempt_at NULLS FIRST, name
LIMIT $1
