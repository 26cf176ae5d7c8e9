-- Statements that the release with schema version 12 prepares, as a server logged them, without
-- their comments. First the calls, each with its values (in place of `:name`) and, if it differs, the
-- name under which a test calls it.
--@ heartbeat(':owner', 'host', 7, '0.1.0', '127.0.0.1:7000', true, NULL, NULL, false)
--@ due(1.2, 2048, NULL)
--@ expired(1000, NULL)
--@ claim(':key', ':owner', :ttl, NULL)
--@ claim_several: claim_several(ARRAY[':key'], ':owner', :ttl, NULL)
--@ begin: write('{"absent": false, "proven": null, "cleared": true, "healthy": false, "reached": false, "row_key": ":key", "row_uid": ":uid", "row_was": ":was", "row_term": :term, "row_owner": ":owner", "actual_state": ":state", "next_check_at": null, "status_reason": "Begun", "row_generation": :generation, "status_message": "started", "failed_attempts": 0, "health_failures": 0, "next_attempt_at": null, "reconcile_error": null, "next_attempt_seconds": null}', NULL, '[{"name": "create_env.sh", "term": :term, "state": "running", "total": 1, "driver": "script", "reason": "Started", "attempt": 1, "message": "started", "row_key": ":key", "version": 1, "position": 1, "required": true, "input_hash": "a30fc1aa899b1d07", "next_try_seconds": null}]')
--@ finish: write_several('[{"absent": false, "proven": ":hash", "cleared": false, "healthy": true, "reached": true, "row_key": ":key", "row_uid": ":uid", "row_was": ":was", "row_term": :term, "row_owner": ":owner", "actual_state": ":state", "next_check_at": "2099-01-01T00:00:00Z", "status_reason": "Done", "row_generation": :generation, "status_message": "healthy: the probe succeeded", "failed_attempts": 0, "health_failures": 0, "next_attempt_at": null, "reconcile_error": null, "next_attempt_seconds": null}]', NULL, '[{"name": "create_env.sh", "term": :term, "state": "done", "total": 1, "driver": "script", "reason": "Applied", "attempt": 1, "message": "applied in 1.0 s", "row_key": ":key", "version": 1, "position": 1, "required": true, "input_hash": "a30fc1aa899b1d07", "next_try_seconds": null}]')
--@ renew(':key', ':uid', ':owner', :term, :ttl, NULL)
--@ release(':key', ':owner', :term)
--@ release_all(':owner')
--@ lock_deletions
--@ deletions(':key', :generation, NULL)
--@ count_deletion(':key', :generation)
--@ remove(':key', ':uid', ':owner', :term, :generation, NULL)
--@ leave(':owner')
--# heartbeat
WITH crashed AS (
    DELETE FROM kindler_replicas
    WHERE owner <> $1 AND seen_at < clock_timestamp() - interval '1 hour'
)
INSERT INTO kindler_replicas AS r (owner, host, pid, version, listen, listening, notice, selector, aside)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)
ON CONFLICT (owner) DO UPDATE SET seen_at = clock_timestamp(), listening = excluded.listening,
    listen = excluded.listen, notice = excluded.notice, aside = excluded.aside
--# expired
WITH over AS (
    SELECT l.cluster_name AS key, l.term, l.expires_at, c.due_at <= now() AS due
    FROM cluster_leases l JOIN clusters c ON c.name = l.cluster_name
    WHERE l.expires_at <= now() AND (kindler_takes($2::jsonb, c.placed_by, c.labels))
), deleted AS (
    DELETE FROM cluster_leases l USING over
    WHERE l.cluster_name = over.key AND l.term = over.term AND NOT over.due
)
SELECT key AS row_key FROM over WHERE due ORDER BY expires_at LIMIT $1
--# due
SELECT c.name AS row_key,
       CASE WHEN c.due_at <= now() THEN 0 ELSE extract(epoch FROM c.due_at - now()) END::float8 AS in_seconds
FROM clusters c
WHERE c.due_at <= now() + make_interval(secs => $1)
  AND (kindler_takes($3::jsonb, c.placed_by, c.labels))
  AND NOT EXISTS (
      SELECT FROM cluster_leases l WHERE l.cluster_name = c.name AND l.expires_at > now())
ORDER BY c.due_at, c.created_at
LIMIT $2
--# claim
WITH due AS (
    SELECT c.name AS key, c.uid
    FROM clusters c
    WHERE c.name = $1::text AND c.due_at <= clock_timestamp() AND (kindler_takes($4::jsonb, c.placed_by, c.labels))
    ORDER BY c.name
    FOR KEY SHARE
), claim AS (
    INSERT INTO cluster_leases AS l (cluster_name, uid, owner, term, acquired_at, renewed_at, expires_at)
    SELECT key, uid, $2, nextval('cluster_lease_terms'), clock_timestamp(), clock_timestamp(),
           clock_timestamp() + make_interval(secs => $3)
    FROM due
    ON CONFLICT (cluster_name) DO UPDATE
        SET uid = excluded.uid, owner = excluded.owner, term = excluded.term,
            acquired_at = excluded.acquired_at, renewed_at = excluded.renewed_at,
            expires_at = excluded.expires_at
        WHERE l.expires_at <= clock_timestamp()
    RETURNING cluster_name AS key, term
)
SELECT c.name AS row_key, c.uid AS row_uid, c.generation AS row_generation, c.actual_state AS row_state, clock_timestamp() AS row_read_at,
c.name, c.uid, c.labels, c.paused, c.protected,
c.desired_state, c.actual_state, c.status_reason, c.status_message, c.reconcile_error,
c.generation, c.observed_generation, coalesce(c.observed_spec_hash = c.spec_hash, false) AS spec_applied,
c.spec_hash, c.failed_attempts, c.next_attempt_at, c.health_failures, c.last_healthy_at, c.next_check_at,
c.last_reconciled_at, c.retry_requested_at, c.server_ip, c.placed_by,
c.created_at::timestamptz AS created_at, c.updated_at::timestamptz AS updated_at,
clock_timestamp() AS read_at
, c.provider, c.subnet::text AS subnet, c.node_port, c.pf_port, c.http_port, c.https_port, c.register_portainer, c.haproxy_route, c.register_argocd, (SELECT jsonb_agg(to_jsonb(p) ORDER BY p.driver, p.position) FROM cluster_steps p WHERE p.uid = c.uid) AS row_steps, claim.term AS row_term,
       claim.term IS NOT NULL OR c.due_at <= clock_timestamp() AS row_due,
       claim.term IS NOT NULL OR (kindler_takes($4::jsonb, c.placed_by, c.labels)) AS row_selected,
       CASE WHEN claim.term IS NULL THEN
           (SELECT extract(epoch FROM held.expires_at - clock_timestamp())
            FROM cluster_leases held WHERE held.cluster_name = c.name) END::float8 AS row_held_seconds,
       CASE WHEN claim.term IS NULL AND isfinite(c.due_at)
           THEN extract(epoch FROM c.due_at - clock_timestamp()) END::float8 AS row_due_seconds
FROM clusters c LEFT JOIN claim ON claim.key = c.name
WHERE c.name = $1::text
--# write
WITH status AS (
    SELECT * FROM jsonb_to_record($1::jsonb) AS s (
        row_key text, row_uid uuid, row_owner text, row_term bigint, row_generation bigint, row_was text,
        actual_state text, status_reason text, status_message text, reconcile_error text, failed_attempts integer, next_attempt_at timestamptz, next_attempt_seconds float8, health_failures integer, healthy boolean, next_check_at timestamptz, cleared boolean, proven text, reached boolean, absent boolean)
), fence AS (
    SELECT s.row_key, s.row_owner, s.row_term FROM status s JOIN cluster_leases l
        ON l.cluster_name = s.row_key AND l.uid = s.row_uid AND l.owner = s.row_owner AND l.term = s.row_term
    WHERE l.expires_at > clock_timestamp()
    FOR SHARE OF l
), written AS (
    UPDATE clusters c SET actual_state = s.actual_state, status_reason = s.status_reason, status_message = s.status_message, reconcile_error = s.reconcile_error, failed_attempts = s.failed_attempts, next_attempt_at = coalesce(s.next_attempt_at, clock_timestamp() + make_interval(secs => s.next_attempt_seconds)), health_failures = s.health_failures, last_healthy_at = CASE WHEN s.healthy THEN clock_timestamp() ELSE c.last_healthy_at END, next_check_at = coalesce(s.next_check_at, clock_timestamp() + make_interval(secs => s.next_attempt_seconds)), observed_spec_hash = CASE WHEN s.cleared THEN NULL ELSE coalesce(s.proven, c.observed_spec_hash) END, observed_generation = CASE WHEN s.reached THEN c.generation ELSE c.observed_generation END, last_reconciled_at = clock_timestamp(), placed_by = CASE WHEN $2::text IS NULL THEN c.placed_by WHEN NOT s.absent THEN $2::text END
    FROM status s JOIN fence f USING (row_key, row_owner, row_term)
    WHERE c.name = s.row_key AND c.uid = s.row_uid AND c.generation = s.row_generation
      AND c.actual_state = s.row_was AND ($2::text IS NULL OR coalesce(c.placed_by, $2::text) = $2::text)
    RETURNING c.name AS row_key, c.uid AS row_uid, c.generation AS row_generation, c.actual_state AS row_state, clock_timestamp() AS row_read_at,
c.name, c.uid, c.labels, c.paused, c.protected,
c.desired_state, c.actual_state, c.status_reason, c.status_message, c.reconcile_error,
c.generation, c.observed_generation, coalesce(c.observed_spec_hash = c.spec_hash, false) AS spec_applied,
c.spec_hash, c.failed_attempts, c.next_attempt_at, c.health_failures, c.last_healthy_at, c.next_check_at,
c.last_reconciled_at, c.retry_requested_at, c.server_ip, c.placed_by,
c.created_at::timestamptz AS created_at, c.updated_at::timestamptz AS updated_at,
clock_timestamp() AS read_at
, c.provider, c.subnet::text AS subnet, c.node_port, c.pf_port, c.http_port, c.https_port, c.register_portainer, c.haproxy_route, c.register_argocd, row_term
), stepped AS (
    INSERT INTO cluster_steps AS p (uid, driver, name, position, total, version, required, state, attempt, reason, message,
                              input_hash, term, started_at, finished_at, next_try_at)
    SELECT w.row_uid, x.driver, x.name, x.position, x.total, x.version, x.required, x.state, x.attempt, x.reason, x.message,
           x.input_hash, x.term,
           CASE WHEN x.state IN ('running', 'removing') THEN clock_timestamp() END,
           CASE WHEN x.state NOT IN ('running', 'removing', 'pending') THEN clock_timestamp() END,
           clock_timestamp() + make_interval(secs => x.next_try_seconds)
    FROM jsonb_to_recordset($3::jsonb) AS x (
        row_key text, driver text, name text, position integer, total integer, version integer, required boolean, state text,
        attempt integer, reason text, message text, input_hash text, term bigint, next_try_seconds float8)
    JOIN written w ON w.row_key = x.row_key AND w.row_term = x.term
    ON CONFLICT (uid, driver, name) DO UPDATE
        SET position = excluded.position, total = excluded.total, version = excluded.version, required = excluded.required,
            state = excluded.state, attempt = excluded.attempt, reason = excluded.reason,
            message = excluded.message, input_hash = excluded.input_hash, term = excluded.term,
            started_at = coalesce(excluded.started_at, p.started_at),
            finished_at = excluded.finished_at, next_try_at = excluded.next_try_at
        WHERE p.version <= excluded.version
)
SELECT * FROM written
--# renew
WITH renewed AS (
    UPDATE cluster_leases
    SET renewed_at = clock_timestamp(), expires_at = clock_timestamp() + make_interval(secs => $5)
    WHERE cluster_name = $1 AND uid = $2 AND owner = $3 AND term = $4 AND expires_at > clock_timestamp()
    RETURNING cluster_name AS key
)
SELECT c.name AS row_key, c.uid AS row_uid, c.generation AS row_generation, c.actual_state AS row_state, clock_timestamp() AS row_read_at,
c.name, c.uid, c.labels, c.paused, c.protected,
c.desired_state, c.actual_state, c.status_reason, c.status_message, c.reconcile_error,
c.generation, c.observed_generation, coalesce(c.observed_spec_hash = c.spec_hash, false) AS spec_applied,
c.spec_hash, c.failed_attempts, c.next_attempt_at, c.health_failures, c.last_healthy_at, c.next_check_at,
c.last_reconciled_at, c.retry_requested_at, c.server_ip, c.placed_by,
c.created_at::timestamptz AS created_at, c.updated_at::timestamptz AS updated_at,
clock_timestamp() AS read_at
, c.provider, c.subnet::text AS subnet, c.node_port, c.pf_port, c.http_port, c.https_port, c.register_portainer, c.haproxy_route, c.register_argocd, (SELECT jsonb_agg(to_jsonb(p) ORDER BY p.driver, p.position) FROM cluster_steps p WHERE p.uid = c.uid) AS row_steps
FROM clusters c JOIN renewed ON renewed.key = c.name
WHERE c.uid = $2 AND ($6::text IS NULL OR coalesce(c.placed_by, $6::text) = $6::text)
--# release
DELETE FROM cluster_leases WHERE cluster_name = $1 AND owner = $2 AND term = $3
--# claim_several
WITH due AS (
    SELECT c.name AS key, c.uid
    FROM clusters c
    WHERE c.name = ANY($1::text[]) AND c.due_at <= clock_timestamp() AND (kindler_takes($4::jsonb, c.placed_by, c.labels))
    ORDER BY c.name
    FOR KEY SHARE
), claim AS (
    INSERT INTO cluster_leases AS l (cluster_name, uid, owner, term, acquired_at, renewed_at, expires_at)
    SELECT key, uid, $2, nextval('cluster_lease_terms'), clock_timestamp(), clock_timestamp(),
           clock_timestamp() + make_interval(secs => $3)
    FROM due
    ON CONFLICT (cluster_name) DO UPDATE
        SET uid = excluded.uid, owner = excluded.owner, term = excluded.term,
            acquired_at = excluded.acquired_at, renewed_at = excluded.renewed_at,
            expires_at = excluded.expires_at
        WHERE l.expires_at <= clock_timestamp()
    RETURNING cluster_name AS key, term
)
SELECT c.name AS row_key, c.uid AS row_uid, c.generation AS row_generation, c.actual_state AS row_state, clock_timestamp() AS row_read_at,
c.name, c.uid, c.labels, c.paused, c.protected,
c.desired_state, c.actual_state, c.status_reason, c.status_message, c.reconcile_error,
c.generation, c.observed_generation, coalesce(c.observed_spec_hash = c.spec_hash, false) AS spec_applied,
c.spec_hash, c.failed_attempts, c.next_attempt_at, c.health_failures, c.last_healthy_at, c.next_check_at,
c.last_reconciled_at, c.retry_requested_at, c.server_ip, c.placed_by,
c.created_at::timestamptz AS created_at, c.updated_at::timestamptz AS updated_at,
clock_timestamp() AS read_at
, c.provider, c.subnet::text AS subnet, c.node_port, c.pf_port, c.http_port, c.https_port, c.register_portainer, c.haproxy_route, c.register_argocd, (SELECT jsonb_agg(to_jsonb(p) ORDER BY p.driver, p.position) FROM cluster_steps p WHERE p.uid = c.uid) AS row_steps, claim.term AS row_term,
       claim.term IS NOT NULL OR c.due_at <= clock_timestamp() AS row_due,
       claim.term IS NOT NULL OR (kindler_takes($4::jsonb, c.placed_by, c.labels)) AS row_selected,
       CASE WHEN claim.term IS NULL THEN
           (SELECT extract(epoch FROM held.expires_at - clock_timestamp())
            FROM cluster_leases held WHERE held.cluster_name = c.name) END::float8 AS row_held_seconds,
       CASE WHEN claim.term IS NULL AND isfinite(c.due_at)
           THEN extract(epoch FROM c.due_at - clock_timestamp()) END::float8 AS row_due_seconds
FROM clusters c LEFT JOIN claim ON claim.key = c.name
WHERE c.name = ANY($1::text[])
--# write_several
WITH status AS (
    SELECT * FROM jsonb_to_recordset($1::jsonb) AS s (
        row_key text, row_uid uuid, row_owner text, row_term bigint, row_generation bigint, row_was text,
        actual_state text, status_reason text, status_message text, reconcile_error text, failed_attempts integer, next_attempt_at timestamptz, next_attempt_seconds float8, health_failures integer, healthy boolean, next_check_at timestamptz, cleared boolean, proven text, reached boolean, absent boolean)
), fence AS (
    SELECT s.row_key, s.row_owner, s.row_term FROM status s JOIN cluster_leases l
        ON l.cluster_name = s.row_key AND l.uid = s.row_uid AND l.owner = s.row_owner AND l.term = s.row_term
    WHERE l.expires_at > clock_timestamp()
    FOR SHARE OF l SKIP LOCKED
), locked AS (
    SELECT f.* FROM fence f JOIN clusters c ON c.name = f.row_key
    ORDER BY f.row_key
    FOR NO KEY UPDATE OF c SKIP LOCKED
)
, written AS (
    UPDATE clusters c SET actual_state = s.actual_state, status_reason = s.status_reason, status_message = s.status_message, reconcile_error = s.reconcile_error, failed_attempts = s.failed_attempts, next_attempt_at = coalesce(s.next_attempt_at, clock_timestamp() + make_interval(secs => s.next_attempt_seconds)), health_failures = s.health_failures, last_healthy_at = CASE WHEN s.healthy THEN clock_timestamp() ELSE c.last_healthy_at END, next_check_at = coalesce(s.next_check_at, clock_timestamp() + make_interval(secs => s.next_attempt_seconds)), observed_spec_hash = CASE WHEN s.cleared THEN NULL ELSE coalesce(s.proven, c.observed_spec_hash) END, observed_generation = CASE WHEN s.reached THEN c.generation ELSE c.observed_generation END, last_reconciled_at = clock_timestamp(), placed_by = CASE WHEN $2::text IS NULL THEN c.placed_by WHEN NOT s.absent THEN $2::text END
    FROM status s JOIN locked f USING (row_key, row_owner, row_term)
    WHERE c.name = s.row_key AND c.uid = s.row_uid AND c.generation = s.row_generation
      AND c.actual_state = s.row_was AND ($2::text IS NULL OR coalesce(c.placed_by, $2::text) = $2::text)
    RETURNING c.name AS row_key, c.uid AS row_uid, c.generation AS row_generation, c.actual_state AS row_state, clock_timestamp() AS row_read_at,
c.name, c.uid, c.labels, c.paused, c.protected,
c.desired_state, c.actual_state, c.status_reason, c.status_message, c.reconcile_error,
c.generation, c.observed_generation, coalesce(c.observed_spec_hash = c.spec_hash, false) AS spec_applied,
c.spec_hash, c.failed_attempts, c.next_attempt_at, c.health_failures, c.last_healthy_at, c.next_check_at,
c.last_reconciled_at, c.retry_requested_at, c.server_ip, c.placed_by,
c.created_at::timestamptz AS created_at, c.updated_at::timestamptz AS updated_at,
clock_timestamp() AS read_at
, c.provider, c.subnet::text AS subnet, c.node_port, c.pf_port, c.http_port, c.https_port, c.register_portainer, c.haproxy_route, c.register_argocd, row_term
), stepped AS (
    INSERT INTO cluster_steps AS p (uid, driver, name, position, total, version, required, state, attempt, reason, message,
                              input_hash, term, started_at, finished_at, next_try_at)
    SELECT w.row_uid, x.driver, x.name, x.position, x.total, x.version, x.required, x.state, x.attempt, x.reason, x.message,
           x.input_hash, x.term,
           CASE WHEN x.state IN ('running', 'removing') THEN clock_timestamp() END,
           CASE WHEN x.state NOT IN ('running', 'removing', 'pending') THEN clock_timestamp() END,
           clock_timestamp() + make_interval(secs => x.next_try_seconds)
    FROM jsonb_to_recordset($3::jsonb) AS x (
        row_key text, driver text, name text, position integer, total integer, version integer, required boolean, state text,
        attempt integer, reason text, message text, input_hash text, term bigint, next_try_seconds float8)
    JOIN written w ON w.row_key = x.row_key AND w.row_term = x.term
    ON CONFLICT (uid, driver, name) DO UPDATE
        SET position = excluded.position, total = excluded.total, version = excluded.version, required = excluded.required,
            state = excluded.state, attempt = excluded.attempt, reason = excluded.reason,
            message = excluded.message, input_hash = excluded.input_hash, term = excluded.term,
            started_at = coalesce(excluded.started_at, p.started_at),
            finished_at = excluded.finished_at, next_try_at = excluded.next_try_at
        WHERE p.version <= excluded.version
)
SELECT * FROM written
--# lock_deletions
SELECT pg_advisory_xact_lock(hashtextextended('kindler deletes ' || current_schema(), 0))
--# deletions
WITH waiting AS (
    SELECT c.name, coalesce(c.absent_since, timestamptz '-infinity') AS since
    FROM clusters c
    WHERE c.status_reason = 'DeletionHeld' AND c.desired_state = 'absent' AND c.name <> $1
      AND NOT c.paused AND NOT c.protected AND kindler_takes($3::jsonb, c.placed_by, c.labels)
), me AS (
    SELECT name, coalesce(absent_since, timestamptz '-infinity') AS since FROM clusters WHERE name = $1
)
SELECT clock_timestamp() AS read_at,
       EXISTS (SELECT FROM cluster_deletions WHERE cluster_name = $1 AND generation = $2) AS counted,
       ARRAY(SELECT begun_at FROM cluster_deletions
             WHERE begun_at > now() - interval '1 minute' ORDER BY begun_at) AS begun,
       (SELECT count(*) FROM waiting w, me WHERE (w.since, w.name) < (me.since, me.name)) AS ahead,
       (SELECT count(*) FROM waiting w, me WHERE (w.since, w.name) > (me.since, me.name)) AS behind
--# count_deletion
INSERT INTO cluster_deletions (cluster_name, generation) VALUES ($1, $2) ON CONFLICT DO NOTHING
--# remove
DELETE FROM clusters c
USING cluster_leases l
WHERE c.name = $1 AND c.uid = $2 AND c.generation = $5 AND c.desired_state = 'absent'
  AND ($6::text IS NULL OR coalesce(c.placed_by, $6::text) = $6::text)
  AND l.cluster_name = c.name AND l.uid = $2 AND l.owner = $3 AND l.term = $4
  AND l.expires_at > clock_timestamp()
  AND set_config('kindler.fence', $4::bigint::text, true) IS NOT NULL
--# release_all
DELETE FROM cluster_leases WHERE owner = $1
--# leave
DELETE FROM kindler_replicas WHERE owner = $1
