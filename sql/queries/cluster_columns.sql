-- The columns of one cluster, for the alias c; the columns of its spec follow them.
-- They are listed, because a newer release may add columns while this one runs.
c.name, c.uid, c.labels, c.paused, c.protected,
c.desired_state, c.actual_state, c.status_reason, c.status_message, c.reconcile_error,
c.generation, c.observed_generation, coalesce(c.observed_spec_hash = c.spec_hash, false) AS spec_applied,
c.spec_hash, c.failed_attempts, c.next_attempt_at, c.health_failures, c.last_healthy_at, c.flaps, c.flapped_at, c.next_check_at,
c.last_reconciled_at, c.retry_requested_at, c.server_ip, c.placed_by,
c.driver, c.engine, c.adopt_requested_at, c.recreate_requested_at,
c.created_at::timestamptz AS created_at, c.updated_at::timestamptz AS updated_at,
clock_timestamp() AS read_at
