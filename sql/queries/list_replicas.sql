-- The daemons, newest first, with the age of their last heartbeat.
SELECT owner, host, pid, version, listen, listening, aside, notice, selector ->> 'place' AS selector, refused, findings,
       settings, scripts, workload, started_at, seen_at,
       extract(epoch FROM clock_timestamp() - seen_at)::float8 AS silent_seconds
FROM kindler_replicas ORDER BY started_at DESC
