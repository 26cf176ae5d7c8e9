-- The login of the daemon on the private Postgres of `kindler dev`: a member
-- of kindler_daemon, which cannot write what people declare. On a database of
-- your own, logins are your administrator's.
DO $$
BEGIN
    IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = 'kindler_reconciler') THEN
        CREATE ROLE kindler_reconciler LOGIN IN ROLE kindler_daemon;
    END IF;
END $$;
