-- Which database this is, whatever it was restored from: when its first migration was
-- applied. The largest term that it has issued. And for how long leases have been issued
-- on this server: no row is claimed for one lifetime of a lease after a failover.
SELECT (SELECT to_char(min(applied_at) AT TIME ZONE 'UTC', 'YYYYMMDDHH24MISSUS') FROM kindler_migrations) AS origin,
       coalesce(pg_sequence_last_value('cluster_lease_terms'), 0) AS issued,
       (SELECT extract(epoch FROM clock_timestamp() - max(since)) FROM kindler_timelines)::float8 AS since_failover
