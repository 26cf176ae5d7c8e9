-- The server as this session sees it, for `kindler doctor`. Other sessions and standbys are
-- visible as far as the role may see them.
SELECT current_setting('server_version') AS version,
       coalesce(inet_client_addr() <<= '127.0.0.0/8' OR inet_client_addr() IN ('::1', inet_server_addr()), true) AS local,
       coalesce((SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()), false) AS tls,
       pg_is_in_recovery() OR current_setting('default_transaction_read_only')::boolean AS read_only,
       current_setting('synchronous_commit') AS synchronous_commit,
       current_setting('max_connections')::integer
           - current_setting('superuser_reserved_connections')::integer AS allowed,
       (SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'client backend')::integer AS used,
       (SELECT count(*) FROM pg_stat_replication)::integer AS standbys,
       (SELECT max(extract(epoch FROM replay_lag)) FROM pg_stat_replication)::float8 AS lag,
       current_user::text AS role,
       (SELECT rolsuper FROM pg_roles WHERE rolname = current_user) AS superuser,
       (SELECT coalesce(array_agg(rolname::text ORDER BY rolname), '{}') FROM pg_roles
        WHERE rolname IN ('kindler_owner', 'kindler_daemon', 'kindler_api', 'kindler_reader')
          AND pg_has_role(current_user, oid, 'MEMBER')) AS roles
