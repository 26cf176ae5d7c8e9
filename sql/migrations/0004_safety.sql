-- What the limits on doing harm stand on: when a deletion was wanted, and
-- which deletions were begun when. Additive and repeatable.

-- Since when a cluster is wanted absent: deletions that are held back go on in
-- this order. A trigger of its own, so that every door sets it.
ALTER TABLE clusters ADD COLUMN IF NOT EXISTS absent_since timestamptz;
COMMENT ON COLUMN clusters.absent_since IS 'Since when desired_state is absent; deletions that are held back go on in this order.';

CREATE OR REPLACE FUNCTION clusters_govern_wish() RETURNS trigger
LANGUAGE plpgsql SET search_path FROM CURRENT AS $$
BEGIN
    NEW.absent_since := CASE WHEN NEW.desired_state = 'absent' THEN clock_timestamp() END;
    RETURN NEW;
END $$;
DROP TRIGGER IF EXISTS clusters_2_govern_wish ON clusters;
CREATE TRIGGER clusters_2_govern_wish BEFORE UPDATE OF desired_state ON clusters FOR EACH ROW
    WHEN (NEW.desired_state IS DISTINCT FROM OLD.desired_state)
    EXECUTE FUNCTION clusters_govern_wish();

-- One row for each deletion that was begun, written in the transaction that
-- commits the intent. It outlives its cluster, because the cap on deletions
-- counts those that are through; and it is one for each wish, because a retry
-- of the same deletion does no new harm.
CREATE TABLE IF NOT EXISTS cluster_deletions (
    cluster_name varchar(63) NOT NULL,
    generation   bigint      NOT NULL,
    begun_at     timestamptz NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (cluster_name, generation)
);
-- Where sql/roles.sql was run before, its roles get what it gives them since;
-- a daemon that may not count may not delete either.
DO $$
BEGIN
    IF EXISTS (SELECT FROM pg_roles WHERE rolname = 'kindler_daemon')
       AND has_table_privilege('kindler_daemon', 'cluster_leases', 'INSERT') THEN
        GRANT SELECT, INSERT ON cluster_deletions TO kindler_daemon;
        GRANT SELECT ON cluster_deletions TO kindler_api, kindler_reader;
    END IF;
END $$;
CREATE INDEX IF NOT EXISTS cluster_deletions_begun ON cluster_deletions (begun_at);

-- What is held back, for the order of the queue, metrics and `kindler status`.
CREATE INDEX IF NOT EXISTS clusters_held ON clusters (status_reason, name)
    WHERE status_reason IN ('DeletionHeld', 'RepairHeld');

-- What a daemon has to say of itself, besides that it is here.
ALTER TABLE kindler_replicas ADD COLUMN IF NOT EXISTS notice text;
