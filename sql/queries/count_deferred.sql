-- Number of clusters whose next action a safety limit defers, by reason, and when the
-- first of them is reconciled again. For metrics and status.
SELECT status_reason AS reason, count(*) AS clusters,
       min(CASE WHEN actual_state = 'running' AND desired_state = 'present'
                THEN next_check_at ELSE next_attempt_at END) AS next_at
FROM clusters
WHERE status_reason IN ('DeletionHeld', 'RepairHeld')
  AND (status_reason = 'DeletionHeld') = (desired_state = 'absent') AND NOT paused AND NOT protected
GROUP BY 1 ORDER BY 1
