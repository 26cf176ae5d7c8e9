-- Failed clusters, those in repair or flapping, those that nothing can observe or remove, and
-- their next attempts: failed ones first, then the soonest. For status.
-- $1 limit
SELECT name, CASE WHEN status_reason ~ '\S' THEN status_reason ELSE 'Declared' END AS reason,
       CASE WHEN status_message ~ '\S' THEN status_message ELSE 'recorded as ' || actual_state || ', without a reason' END AS message,
       actual_state, failed_attempts, next_attempt_at, reconcile_error AS error,
       paused, protected OR name = 'devops' AS protected
FROM clusters
WHERE failed_attempts > 0 OR actual_state = 'failed'
   OR status_reason IN ('Flapping', 'ObservationFailed', 'StepsUnknown')
   OR (actual_state = 'restarting' AND reconcile_error IS NOT NULL)
ORDER BY failed_attempts = 0 AND actual_state <> 'failed', next_attempt_at NULLS FIRST, name
LIMIT $1
