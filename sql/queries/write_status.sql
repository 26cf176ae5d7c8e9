-- Writes the status of a cluster under its fence: only while the lease is
-- held, the generation is the one that was decided on, the state is the one
-- that was read, and the cluster is not placed elsewhere. Losing is no row. The
-- share lock on the lease makes a takeover wait for this write, or this write see
-- the takeover.
-- $1 name, $2 term, $3 generation, $4 state that was read,
-- $5 state, $6 reason, $7 message, $8 error, $9 failed attempts, $10 next attempt,
-- $11 health failures, $12 healthy now, $13 next check, $14 forget what was applied,
-- $15 hash of the spec that was applied, $16 whether the generation is reached,
-- $17 the place of this daemon, if it has one, $18 whether the cluster is known not to be there
WITH fence AS (
    SELECT cluster_name FROM cluster_leases
    WHERE cluster_name = $1 AND term = $2 AND expires_at > clock_timestamp()
    FOR SHARE
)
UPDATE clusters c
SET actual_state = $5, status_reason = $6, status_message = $7, reconcile_error = $8,
    failed_attempts = $9, next_attempt_at = $10, health_failures = $11,
    last_healthy_at = CASE WHEN $12 THEN clock_timestamp() ELSE c.last_healthy_at END,
    next_check_at = $13,
    observed_spec_hash = CASE WHEN $14 THEN NULL ELSE coalesce($15, c.observed_spec_hash) END,
    observed_generation = CASE WHEN $16 THEN c.generation ELSE c.observed_generation END,
    last_reconciled_at = clock_timestamp(),
    placed_by = CASE WHEN $17::text IS NULL THEN c.placed_by WHEN NOT $18 THEN $17 END
FROM fence
WHERE c.name = fence.cluster_name AND c.generation = $3 AND c.actual_state = $4
  AND ($17::text IS NULL OR coalesce(c.placed_by, $17) = $17)
RETURNING {cluster}
