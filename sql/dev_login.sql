-- The login roles of the embedded Postgres of `kindler dev`. The daemon's is a member of
-- kindler_daemon, which cannot write declarations; the page's and the API's is a member
-- of kindler_api, which cannot write status. On any other server an administrator
-- creates the login roles.
DO $$
BEGIN
    IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = 'kindler_reconciler') THEN
        CREATE ROLE kindler_reconciler LOGIN IN ROLE kindler_daemon;
    END IF;
    IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = 'kindler_page') THEN
        CREATE ROLE kindler_page LOGIN IN ROLE kindler_api;
    END IF;
END $$;
