-- The sessions and prepared transactions that a session waits for, in the columns of
-- list_blockers.sql. A prepared transaction has no process: all of this database are named.
-- $1 process of the session that waits
SELECT a.pid, a.usename::text AS "user", a.application_name AS application,
       a.backend_type AS kind, a.query_start, a.xact_start,
       NULL::text AS prepared, NULL::text AS prepared_by, NULL::timestamptz AS prepared_at
FROM pg_stat_activity a WHERE a.pid = ANY (pg_blocking_pids($1))
UNION ALL
SELECT NULL, NULL, NULL, NULL, NULL, NULL, p.gid, p.owner::text, p.prepared
FROM pg_prepared_xacts p WHERE 0 = ANY (pg_blocking_pids($1)) AND p.database = current_database()
