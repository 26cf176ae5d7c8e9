-- Facts about the fleet for metrics: their kind, the label values, and the value.
-- $1 seconds without a heartbeat after which a daemon counts as gone
WITH live AS (
    SELECT owner, host, version, coalesce(selector ->> 'place', '') AS selector, aside, settings
    FROM kindler_replicas WHERE seen_at > clock_timestamp() - make_interval(secs => $1)
), waiting AS (
    SELECT c.name, row_number() OVER (ORDER BY c.due_at, c.created_at) AS position
    FROM clusters c
    WHERE c.due_at <= now() AND NOT EXISTS (
        SELECT FROM cluster_leases l WHERE l.cluster_name = c.name AND l.expires_at > now())
    ORDER BY c.due_at, c.created_at LIMIT 50
), failed_steps AS (
    SELECT c.name, s.name AS step FROM cluster_steps s JOIN clusters c USING (uid)
    WHERE s.state = 'failed' ORDER BY c.name, s.name LIMIT 200
), lost AS (
    SELECT e.cluster_name AS name, count(*) AS times FROM cluster_events e
    WHERE e.at > clock_timestamp() - interval '1 hour' AND e.kind = 'transition'
      AND e.from_state = 'running' AND e.to_state IN ('failed', 'restarting')
    GROUP BY 1 ORDER BY times DESC, 1 LIMIT 200
)
SELECT 'replica' AS kind, ARRAY[owner, host, version, selector, (NOT aside)::text] AS labels, 1::float8 AS value
FROM live
UNION ALL SELECT 'setting', ARRAY[owner, host, s.key, coalesce(s.value ->> 'value', s.value #>> '{}', '')], 1
FROM live, jsonb_each(settings) AS s WHERE s.key <> 'PATH'
UNION ALL SELECT 'position', ARRAY[name], position FROM waiting
UNION ALL SELECT 'failed_step', ARRAY[name, step], 1 FROM failed_steps
UNION ALL SELECT 'lost', ARRAY[name], times FROM lost
UNION ALL SELECT 'table', ARRAY[c.relname::text], 
    -- As the last VACUUM or ANALYZE saw it: the exact size would wait for a locked table.
    ((SELECT sum(p.relpages) FROM pg_class p
      WHERE p.oid IN (c.oid, c.reltoastrelid)
         OR p.oid IN (SELECT i.indexrelid FROM pg_index i WHERE i.indrelid IN (c.oid, c.reltoastrelid)))
     * current_setting('block_size')::bigint)::float8
FROM pg_class c
WHERE c.relkind = 'r' AND c.relnamespace = (SELECT relnamespace FROM pg_class WHERE oid = 'clusters'::regclass)
  AND (c.relname = 'clusters' OR c.relname LIKE 'cluster\_%' OR c.relname LIKE 'kindler\_%')
ORDER BY 1, 2
