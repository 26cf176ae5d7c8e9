-- The logins on the private Postgres of `kindler dev`: the daemon's is a member
-- of kindler_daemon, which cannot write what people declare; the page's and the
-- API's one of kindler_api, which cannot write status. On a database of your
-- own, logins are your administrator's.
DO $$
BEGIN
    IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = 'kindler_reconciler') THEN
        CREATE ROLE kindler_reconciler LOGIN IN ROLE kindler_daemon;
    END IF;
    IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = 'kindler_page') THEN
        CREATE ROLE kindler_page LOGIN IN ROLE kindler_api;
    END IF;
END $$;
