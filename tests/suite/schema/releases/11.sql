-- Statements that the release with schema version 11 prepares, as a server logged them, without
-- their comments. First the calls, each with its values (in place of `:name`) and, if it differs, the
-- name under which a test calls it.
--@ heartbeat(':owner', 'host', 7, '0.1.0', '127.0.0.1:7000', true, NULL, NULL, false)
--@ due(1.2, 2048, NULL)
--@ expired(1000, NULL)
--@ claim(':key', ':owner', :ttl, NULL)
--@ begin: write(':key', :term, :generation, ':was', ':state', 'Begun', 'started', NULL, 0, NULL, 0, false, NULL, true, NULL, false, NULL, false)
--@ finish: write(':key', :term, :generation, ':was', ':state', 'Done', 'it answers its probe', NULL, 0, NULL, 0, true, now() + interval '1 hour', false, ':hash', true, NULL, false)
--@ renew(':key', :term, :ttl, NULL)
--@ release(':key', :term)
--@ release_all(':owner')
--@ lock_deletions
--@ deletions(':key', :generation, NULL)
--@ count_deletion(':key', :generation)
--@ remove(':key', :term, :generation, NULL)
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
    SELECT l.cluster_name, l.term, l.expires_at, c.due_at <= now() AS due
    FROM cluster_leases l JOIN clusters c ON c.name = l.cluster_name
    WHERE l.expires_at <= now() AND kindler_takes($2::jsonb, c.placed_by, c.labels)
), taken_away AS (
    DELETE FROM cluster_leases l USING over
    WHERE l.cluster_name = over.cluster_name AND l.term = over.term AND NOT over.due
)
SELECT cluster_name FROM over WHERE due ORDER BY expires_at LIMIT $1
--# due
SELECT c.name,
       CASE WHEN c.due_at <= now() THEN 0 ELSE extract(epoch FROM c.due_at - now()) END::float8 AS in_seconds
FROM clusters c
WHERE c.due_at <= now() + make_interval(secs => $1)
  AND kindler_takes($3::jsonb, c.placed_by, c.labels)
  AND NOT EXISTS (
      SELECT FROM cluster_leases l WHERE l.cluster_name = c.name AND l.expires_at > now())
ORDER BY c.due_at, c.created_at
LIMIT $2
--# claim
WITH claim AS (
    INSERT INTO cluster_leases AS l (cluster_name, owner, term, acquired_at, renewed_at, expires_at)
    SELECT name, $2, nextval('cluster_lease_terms'), clock_timestamp(), clock_timestamp(),
           clock_timestamp() + make_interval(secs => $3)
    FROM clusters WHERE name = $1 AND due_at <= clock_timestamp() AND kindler_takes($4::jsonb, placed_by, labels)
    FOR KEY SHARE
    ON CONFLICT (cluster_name) DO UPDATE
        SET owner = excluded.owner, term = excluded.term, acquired_at = excluded.acquired_at,
            renewed_at = excluded.renewed_at, expires_at = excluded.expires_at
        WHERE l.expires_at <= clock_timestamp()
    RETURNING term
)
SELECT
c.name, c.uid, c.provider, c.subnet::text AS subnet, c.node_port, c.pf_port, c.http_port, c.https_port,
c.register_portainer, c.haproxy_route, c.register_argocd, c.labels, c.paused, c.protected,
c.desired_state, c.actual_state, c.status_reason, c.status_message, c.reconcile_error,
c.generation, c.observed_generation, coalesce(c.observed_spec_hash = c.spec_hash, false) AS spec_applied,
c.spec_hash, c.failed_attempts, c.next_attempt_at, c.health_failures, c.last_healthy_at, c.next_check_at,
c.last_reconciled_at, c.retry_requested_at, c.server_ip, c.placed_by,
c.created_at::timestamptz AS created_at, c.updated_at::timestamptz AS updated_at,
clock_timestamp() AS read_at
, claim.term, claim.term IS NOT NULL OR c.due_at <= clock_timestamp() AS due,
       claim.term IS NOT NULL OR kindler_takes($4::jsonb, c.placed_by, c.labels) AS mine,
       CASE WHEN claim.term IS NULL THEN
           (SELECT extract(epoch FROM held.expires_at - clock_timestamp())
            FROM cluster_leases held WHERE held.cluster_name = c.name) END::float8 AS held_seconds,
       CASE WHEN claim.term IS NULL AND isfinite(c.due_at)
           THEN extract(epoch FROM c.due_at - clock_timestamp()) END::float8 AS due_seconds
FROM clusters c LEFT JOIN claim ON true
WHERE c.name = $1
--# write
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
RETURNING
c.name, c.uid, c.provider, c.subnet::text AS subnet, c.node_port, c.pf_port, c.http_port, c.https_port,
c.register_portainer, c.haproxy_route, c.register_argocd, c.labels, c.paused, c.protected,
c.desired_state, c.actual_state, c.status_reason, c.status_message, c.reconcile_error,
c.generation, c.observed_generation, coalesce(c.observed_spec_hash = c.spec_hash, false) AS spec_applied,
c.spec_hash, c.failed_attempts, c.next_attempt_at, c.health_failures, c.last_healthy_at, c.next_check_at,
c.last_reconciled_at, c.retry_requested_at, c.server_ip, c.placed_by,
c.created_at::timestamptz AS created_at, c.updated_at::timestamptz AS updated_at,
clock_timestamp() AS read_at
--# renew
WITH renewed AS (
    UPDATE cluster_leases
    SET renewed_at = clock_timestamp(), expires_at = clock_timestamp() + make_interval(secs => $3)
    WHERE cluster_name = $1 AND term = $2 AND expires_at > clock_timestamp()
    RETURNING cluster_name
)
SELECT
c.name, c.uid, c.provider, c.subnet::text AS subnet, c.node_port, c.pf_port, c.http_port, c.https_port,
c.register_portainer, c.haproxy_route, c.register_argocd, c.labels, c.paused, c.protected,
c.desired_state, c.actual_state, c.status_reason, c.status_message, c.reconcile_error,
c.generation, c.observed_generation, coalesce(c.observed_spec_hash = c.spec_hash, false) AS spec_applied,
c.spec_hash, c.failed_attempts, c.next_attempt_at, c.health_failures, c.last_healthy_at, c.next_check_at,
c.last_reconciled_at, c.retry_requested_at, c.server_ip, c.placed_by,
c.created_at::timestamptz AS created_at, c.updated_at::timestamptz AS updated_at,
clock_timestamp() AS read_at
 FROM clusters c JOIN renewed ON renewed.cluster_name = c.name
WHERE $4::text IS NULL OR coalesce(c.placed_by, $4) = $4
--# release
DELETE FROM cluster_leases WHERE cluster_name = $1 AND term = $2
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
WHERE c.name = $1 AND c.generation = $3 AND c.desired_state = 'absent'
  AND ($4::text IS NULL OR coalesce(c.placed_by, $4) = $4)
  AND l.cluster_name = c.name AND l.term = $2 AND l.expires_at > clock_timestamp()
  AND set_config('kindler.fence', $2::bigint::text, true) IS NOT NULL
--# release_all
DELETE FROM cluster_leases WHERE owner = $1
--# leave
DELETE FROM kindler_replicas WHERE owner = $1
