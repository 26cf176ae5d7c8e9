-- Which database this is, whatever it was restored from: when its first migration was
-- applied. And the largest term that it has issued.
SELECT (SELECT to_char(min(applied_at) AT TIME ZONE 'UTC', 'YYYYMMDDHH24MISSUS') FROM kindler_migrations) AS origin,
       coalesce(pg_sequence_last_value('cluster_lease_terms'), 0) AS issued
