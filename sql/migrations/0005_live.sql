-- What a page and programs need to follow the clusters live: which rows
-- changed since when, a bell of their own, and names for what was ordered.
-- Additive and repeatable.

-- The transaction that last wrote a row. Whoever read with a snapshot whose
-- oldest running transaction was X has missed nothing but rows with
-- changed_in >= X, in whatever order transactions commit.
ALTER TABLE clusters ADD COLUMN IF NOT EXISTS changed_in xid8 DEFAULT pg_current_xact_id();
CREATE INDEX IF NOT EXISTS clusters_changed_in ON clusters (changed_in);
COMMENT ON COLUMN clusters.changed_in IS 'The transaction that last wrote this row, for those who follow changes.';

CREATE OR REPLACE FUNCTION clusters_stamp() RETURNS trigger
LANGUAGE plpgsql SET search_path FROM CURRENT AS $$
BEGIN
    NEW.changed_in := pg_current_xact_id();
    RETURN NEW;
END $$;
DROP TRIGGER IF EXISTS clusters_2_stamp ON clusters;
CREATE TRIGGER clusters_2_stamp BEFORE INSERT OR UPDATE ON clusters
    FOR EACH ROW EXECUTE FUNCTION clusters_stamp();

-- Who follows changes now. NOTIFY makes commits wait for one another, so
-- nobody is rung while nobody looks.
CREATE TABLE IF NOT EXISTS kindler_watchers (
    owner text        PRIMARY KEY,
    until timestamptz NOT NULL
);
COMMENT ON TABLE kindler_watchers IS 'Servers with open streams; while there is one, every write to clusters rings the channel of the page.';

-- One ring for a statement, and one for a transaction, because the payload is
-- always the same: it says that something changed, never what.
CREATE OR REPLACE FUNCTION clusters_show() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path FROM CURRENT AS $$
BEGIN
    IF EXISTS (SELECT FROM kindler_watchers WHERE until > now()) THEN
        PERFORM pg_notify(kindler_channel('page'), 'changed');
    END IF;
    RETURN NULL;
END $$;
DROP TRIGGER IF EXISTS clusters_6_show ON clusters;
CREATE TRIGGER clusters_6_show AFTER INSERT OR UPDATE OR DELETE ON clusters
    FOR EACH STATEMENT EXECUTE FUNCTION clusters_show();

-- A start or a stop is ordered by a revision, so its task is the revision's.
ALTER TABLE cluster_revisions ADD COLUMN IF NOT EXISTS task_id uuid
    GENERATED ALWAYS AS (md5(cluster_name || '/' || generation::text)::uuid) STORED;
CREATE INDEX IF NOT EXISTS cluster_revisions_task ON cluster_revisions (task_id);

-- Where sql/roles.sql was run before, its roles get what it gives them since.
DO $$
BEGIN
    IF EXISTS (SELECT FROM pg_roles WHERE rolname = 'kindler_daemon')
       AND has_table_privilege('kindler_daemon', 'cluster_leases', 'INSERT') THEN
        GRANT SELECT, INSERT, UPDATE, DELETE ON kindler_watchers TO kindler_daemon, kindler_api;
        GRANT SELECT ON kindler_watchers TO kindler_reader;
    END IF;
END $$;
