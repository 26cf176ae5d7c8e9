-- The daemon writes the address of a cluster's server. Where sql/roles.sql was run before, its
-- role gets what the file gives it since.
DO $$
BEGIN
    IF EXISTS (SELECT FROM pg_roles WHERE rolname = 'kindler_daemon')
       AND has_column_privilege('kindler_daemon', 'clusters', 'actual_state', 'UPDATE') THEN
        GRANT UPDATE (server_ip) ON clusters TO kindler_daemon;
    END IF;
END $$;
