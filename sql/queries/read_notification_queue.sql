-- The used share of the server's notification queue and, if a part of it stays unread, the
-- session that most likely blocks it: the oldest transaction, or a client that does not
-- read. The server does not say which sessions listen. A role without pg_read_all_stats
-- sees only its own sessions.
SELECT q.usage, NOT kindler_notifies() AS nearly_full,
       b.pid, b.application_name AS application, b.usename::text AS "user", b.since
FROM (SELECT pg_notification_queue_usage() AS usage) q
LEFT JOIN LATERAL (
    SELECT a.pid, a.application_name, a.usename, coalesce(a.xact_start, a.state_change) AS since
    FROM pg_stat_activity a
    WHERE q.usage >= 0.1 AND a.pid <> pg_backend_pid() AND a.backend_type = 'client backend'
      AND (a.wait_event = 'ClientWrite' OR a.xact_start < clock_timestamp() - interval '1 second')
    ORDER BY since
    LIMIT 1) b ON true
