-- The sessions and prepared transactions that hold locks on tables, longest first. A role
-- without pg_read_all_stats does not see the times of other roles' sessions.
-- (A prepared transaction has no process, and locks its own number.)
-- $1 names of tables
SELECT held.pid, a.usename::text AS "user", a.application_name AS application,
       a.backend_type AS kind, a.query_start, a.xact_start,
       p.gid AS prepared, p.owner::text AS prepared_by, p.prepared AS prepared_at
FROM (SELECT DISTINCT l.pid, l.virtualtransaction
      FROM pg_locks l JOIN unnest($1::text[]) AS name ON l.relation = to_regclass(name)
      WHERE l.granted AND l.locktype = 'relation' AND l.pid IS DISTINCT FROM pg_backend_pid()
        AND l.database = (SELECT oid FROM pg_database WHERE datname = current_database())) held
LEFT JOIN pg_stat_activity a ON a.pid = held.pid
LEFT JOIN pg_locks own ON held.pid IS NULL AND own.pid IS NULL AND own.locktype = 'transactionid'
    AND own.virtualtransaction = held.virtualtransaction
LEFT JOIN pg_prepared_xacts p ON p.transaction = own.transactionid
ORDER BY coalesce(a.xact_start, p.prepared) NULLS FIRST
LIMIT 3
