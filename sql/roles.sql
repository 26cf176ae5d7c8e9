-- Roles with least privilege. An administrator runs this once after `kindler migrate`,
-- in the database and schema of the table (repeatable):
--
--     psql "$ADMIN_URL" -f sql/roles.sql
--
-- Four group roles; grant a login one of them:
--
--     CREATE ROLE reconciler LOGIN PASSWORD '...' IN ROLE kindler_daemon;
--
-- kindler_owner   owns tables and functions, and migrates; the login that has migrated
--                 becomes a member
-- kindler_daemon  writes status, leases and replicas, but no declarations
-- kindler_api     writes declarations, but no status
-- kindler_reader  reads

-- Everything waits behind a statement that waits for a lock on a table. If one fails
-- here, another session holds a lock for long: run this file again.
SET lock_timeout = '500ms';

DO $$
DECLARE role text;
BEGIN
    FOREACH role IN ARRAY ARRAY['kindler_owner', 'kindler_daemon', 'kindler_api', 'kindler_reader'] LOOP
        -- Roles belong to the whole server: a concurrent run may create it first.
        BEGIN
            IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = role) THEN
                EXECUTE format('CREATE ROLE %I NOLOGIN', role);
            END IF;
        EXCEPTION WHEN duplicate_object OR unique_violation THEN
            NULL;
        END;
    END LOOP;
    EXECUTE format('GRANT USAGE ON SCHEMA %I TO kindler_daemon, kindler_api, kindler_reader', current_schema());
    EXECUTE format('GRANT USAGE, CREATE ON SCHEMA %I TO kindler_owner', current_schema());
END $$;

-- The login that has migrated keeps its rights over the tables, as a member of their new owner.
DO $$
DECLARE login name;
BEGIN
    SELECT r.rolname INTO login FROM pg_class c JOIN pg_roles r ON r.oid = c.relowner
    WHERE c.oid = 'clusters'::regclass AND r.rolcanlogin AND NOT r.rolsuper;
    IF login IS NOT NULL THEN
        EXECUTE format('GRANT kindler_owner TO %I', login);
    END IF;
END $$;

ALTER TABLE clusters            OWNER TO kindler_owner;
ALTER TABLE cluster_leases      OWNER TO kindler_owner;
ALTER TABLE cluster_steps       OWNER TO kindler_owner;
ALTER TABLE kindler_replicas    OWNER TO kindler_owner;
ALTER TABLE kindler_timelines   OWNER TO kindler_owner;
ALTER TABLE cluster_events      OWNER TO kindler_owner;
ALTER TABLE cluster_revisions   OWNER TO kindler_owner;
ALTER TABLE cluster_deletions   OWNER TO kindler_owner;
ALTER TABLE kindler_watchers    OWNER TO kindler_owner;
ALTER TABLE kindler_tokens      OWNER TO kindler_owner;
ALTER TABLE kindler_sessions    OWNER TO kindler_owner;
ALTER TABLE kindler_migrations  OWNER TO kindler_owner;
ALTER SEQUENCE cluster_lease_terms OWNER TO kindler_owner;
DO $$
DECLARE f regprocedure;
BEGIN
    FOR f IN SELECT p.oid::regprocedure FROM pg_proc p JOIN pg_namespace n ON n.oid = p.pronamespace
             WHERE n.nspname = current_schema()
               AND (p.proname LIKE 'kindler\_%' OR p.proname LIKE 'clusters\_%' OR p.proname LIKE 'cluster\_events\_%'
                    OR p.proname LIKE 'cluster\_steps\_%')
    LOOP
        EXECUTE format('ALTER FUNCTION %s OWNER TO kindler_owner', f);
    END LOOP;
END $$;

GRANT SELECT ON clusters, cluster_leases, cluster_steps, kindler_replicas, cluster_events, cluster_revisions, cluster_deletions,
                kindler_watchers, kindler_migrations
    TO kindler_daemon, kindler_api, kindler_reader;

GRANT UPDATE (actual_state, status_reason, status_message, reconcile_error, failed_attempts, next_attempt_at,
              health_failures, last_healthy_at, flaps, flapped_at, next_check_at, last_reconciled_at,
              observed_generation, observed_spec_hash, placed_by, driver, engine, recreate_requested_at)
    ON clusters TO kindler_daemon;
-- The trigger on DELETE allows only the fenced removal of a cluster that is verified gone.
GRANT DELETE ON clusters TO kindler_daemon;
GRANT INSERT, UPDATE, DELETE ON cluster_leases, kindler_replicas TO kindler_daemon;
GRANT INSERT, UPDATE ON cluster_steps TO kindler_daemon;
-- INSERT only: a daemon counts the deletions that it starts and cannot undo the count.
GRANT INSERT ON cluster_deletions TO kindler_daemon;
GRANT USAGE ON SEQUENCE cluster_lease_terms TO kindler_daemon;
-- It pauses only rows that say absent, and only in a database that is older than the
-- daemon has seen it.
GRANT EXECUTE ON FUNCTION kindler_went_back(bigint) TO kindler_daemon;

-- Processes with open streams register here.
GRANT INSERT, UPDATE, DELETE ON kindler_watchers TO kindler_daemon, kindler_api;

GRANT INSERT (name, labels, paused, desired_state) ON clusters TO kindler_api;
GRANT UPDATE (labels, paused, desired_state, retry_requested_at, adopt_requested_at, recreate_requested_at) ON clusters TO kindler_api;
-- Every field of a spec; the provider is fixed for the life of a row.
DO $$
DECLARE field text;
BEGIN
    FOR field IN SELECT jsonb_object_keys(kindler_declared(NULL::clusters)) LOOP
        EXECUTE format('GRANT INSERT (%I) ON clusters TO kindler_api', field);
        IF field <> 'provider' THEN
            EXECUTE format('GRANT UPDATE (%I) ON clusters TO kindler_api', field);
        END IF;
    END LOOP;
END $$;

-- Servers of the API look up the hashes of tokens (a token cannot be computed from its
-- hash) and record their last use. Only the owner creates and revokes tokens. Only the
-- role of the API creates logins of the page.
GRANT SELECT, UPDATE (last_used_at) ON kindler_tokens TO kindler_daemon, kindler_api;
GRANT SELECT ON kindler_sessions TO kindler_daemon;
GRANT SELECT, INSERT, DELETE ON kindler_sessions TO kindler_api;

RESET lock_timeout;
