-- Each row records the driver and the container engine that its cluster was made with; a
-- person may request that a row takes over a cluster, or that its cluster is created again.
-- Additive and repeatable.

ALTER TABLE clusters
    ADD COLUMN IF NOT EXISTS driver                text,
    ADD COLUMN IF NOT EXISTS engine                text,
    ADD COLUMN IF NOT EXISTS adopt_requested_at    timestamptz,
    ADD COLUMN IF NOT EXISTS recreate_requested_at timestamptz;
COMMENT ON COLUMN clusters.driver IS 'The driver of the first action. Daemons with another driver only say so.';
COMMENT ON COLUMN clusters.engine IS 'The ID of the container engine on which the cluster is, or may be.';
COMMENT ON COLUMN clusters.adopt_requested_at IS 'Set it to now() to take over the cluster of this name that the daemon finds.';
COMMENT ON COLUMN clusters.recreate_requested_at IS 'Set it to now() to delete the cluster and create it again; null when it is deleted.';

-- As in step 20, with the new times.
DO $$
DECLARE
    rule text;
BEGIN
    IF EXISTS (SELECT FROM pg_constraint
               WHERE conrelid = 'clusters'::regclass AND conname = 'clusters_times_in_years_1_to_9999'
                 AND pg_get_constraintdef(oid) LIKE '%adopt_requested_at%') THEN
        RETURN;
    END IF;
    SELECT string_agg(format('(%1$I IS NULL OR %1$I BETWEEN timestamptz ''0001-01-01 00:00:00+00'' AND timestamptz ''9999-12-30 00:00:00+00'')',
                             attname), ' AND ' ORDER BY attnum) INTO rule
    FROM pg_attribute
    WHERE attrelid = 'clusters'::regclass AND attnum > 0 AND NOT attisdropped AND attgenerated = ''
      AND atttypid = 'timestamptz'::regtype;
    ALTER TABLE clusters DROP CONSTRAINT IF EXISTS clusters_times_in_years_1_to_9999;
    EXECUTE format('ALTER TABLE clusters ADD CONSTRAINT clusters_times_in_years_1_to_9999 CHECK (%s)', rule);
END $$;

-- Earlier releases recorded the driver with the steps only. It is no change of a declaration.
DO $$
BEGIN
    IF EXISTS (SELECT FROM clusters WHERE driver IS NULL)
       AND EXISTS (SELECT FROM cluster_steps WHERE state NOT IN ('pending', 'skipped', 'removed')) THEN
        ALTER TABLE clusters DISABLE TRIGGER USER;
        UPDATE clusters c SET driver = last.driver
        FROM (SELECT DISTINCT ON (s.uid) s.uid, s.driver FROM cluster_steps s
              WHERE s.state NOT IN ('pending', 'skipped', 'removed')
              ORDER BY s.uid, coalesce(s.finished_at, s.started_at) DESC NULLS LAST) AS last
        WHERE c.uid = last.uid AND c.driver IS NULL;
        ALTER TABLE clusters ENABLE TRIGGER USER;
    END IF;
END $$;

ALTER TABLE cluster_events DROP CONSTRAINT IF EXISTS cluster_events_kind_check;
ALTER TABLE cluster_events ADD CONSTRAINT cluster_events_kind_check CHECK (kind IN
    ('declared', 'changed', 'retry', 'adopt', 'recreate', 'paused', 'resumed', 'protected', 'unprotected',
     'transition', 'attempt', 'health', 'step', 'removed')) NOT VALID;

-- As in step 19, with the events of the two requests.
CREATE OR REPLACE FUNCTION clusters_record() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path FROM CURRENT AS $$
DECLARE
    e cluster_events;
    was jsonb;
    is_now jsonb;
BEGIN
    e.actor := kindler_actor();
    e.cluster_name := coalesce(NEW.name, OLD.name);
    e.uid := coalesce(NEW.uid, OLD.uid);
    e.generation := coalesce(NEW.generation, OLD.generation);

    IF TG_OP = 'DELETE' THEN
        INSERT INTO cluster_events (cluster_name, uid, kind, actor, generation, from_state, reason, message)
        VALUES (e.cluster_name, e.uid, 'removed', e.actor, e.generation, OLD.actual_state, 'Deleted',
                'verified gone; the row is removed');
        RETURN NULL;
    END IF;

    is_now := kindler_declared(NEW);
    IF TG_OP = 'INSERT' THEN
        INSERT INTO cluster_events (cluster_name, uid, kind, actor, generation, to_state, change)
        VALUES (e.cluster_name, e.uid, 'declared', e.actor, e.generation, NEW.actual_state,
                is_now || jsonb_build_object('desired_state', NEW.desired_state));
    ELSIF NEW.generation <> OLD.generation THEN
        was := kindler_declared(OLD) || jsonb_build_object('desired_state', OLD.desired_state);
        INSERT INTO cluster_events (cluster_name, uid, kind, actor, generation, change)
        SELECT e.cluster_name, e.uid, 'changed', e.actor, e.generation,
               jsonb_object_agg(n.key, jsonb_build_array(was -> n.key, n.value))
        FROM jsonb_each(is_now || jsonb_build_object('desired_state', NEW.desired_state)) AS n
        WHERE n.value IS DISTINCT FROM was -> n.key;
    END IF;
    IF TG_OP = 'INSERT' OR NEW.generation <> OLD.generation THEN
        INSERT INTO cluster_revisions (cluster_name, uid, generation, actor, desired_state, spec)
        VALUES (e.cluster_name, e.uid, e.generation, e.actor, NEW.desired_state, is_now)
        ON CONFLICT DO NOTHING;
    END IF;
    IF TG_OP = 'INSERT' THEN
        RETURN NULL;
    END IF;

    INSERT INTO cluster_events (cluster_name, uid, kind, actor, generation)
    SELECT e.cluster_name, e.uid, k.kind, e.actor, e.generation
    FROM (VALUES
        ('retry', NEW.retry_requested_at IS DISTINCT FROM OLD.retry_requested_at),
        ('adopt', NEW.adopt_requested_at IS DISTINCT FROM OLD.adopt_requested_at),
        ('recreate', NEW.recreate_requested_at IS DISTINCT FROM OLD.recreate_requested_at
                     AND NEW.recreate_requested_at IS NOT NULL),
        ('paused', NEW.paused AND NOT OLD.paused),
        ('resumed', OLD.paused AND NOT NEW.paused),
        ('protected', NEW.protected AND NOT OLD.protected),
        ('unprotected', OLD.protected AND NOT NEW.protected)) AS k (kind, happened)
    WHERE k.happened;

    IF NEW.actual_state <> OLD.actual_state
       OR NEW.failed_attempts > OLD.failed_attempts
       OR (NEW.health_failures > OLD.health_failures AND NEW.status_reason IS DISTINCT FROM 'Flapping')
       OR NEW.status_reason IS DISTINCT FROM OLD.status_reason THEN
        INSERT INTO cluster_events (cluster_name, uid, kind, actor, generation, term, from_state, to_state,
                                    attempt, reason, message, error)
        VALUES (e.cluster_name, e.uid,
                CASE WHEN NEW.actual_state <> OLD.actual_state THEN 'transition'
                     WHEN NEW.failed_attempts > OLD.failed_attempts THEN 'attempt'
                     ELSE 'health' END,
                e.actor, e.generation,
                (SELECT term FROM cluster_leases WHERE cluster_name = NEW.name),
                OLD.actual_state, NEW.actual_state,
                NEW.failed_attempts
                    + (NEW.actual_state IN ('creating', 'restarting', 'updating', 'stopping', 'deleting'))::integer,
                NEW.status_reason, NEW.status_message, NEW.reconcile_error);
    END IF;
    RETURN NULL;
END $$;

-- A request is acted on at once. The daemon clears a request to create a cluster again.
CREATE OR REPLACE FUNCTION clusters_requested() RETURNS trigger
LANGUAGE plpgsql SET search_path FROM CURRENT AS $$
BEGIN
    NEW.failed_attempts := 0;
    NEW.next_attempt_at := NULL;
    NEW.next_check_at := NULL;
    IF NEW.adopt_requested_at IS DISTINCT FROM OLD.adopt_requested_at THEN
        -- The daemon that acts next records its own.
        NEW.driver := NULL;
        NEW.engine := NULL;
    END IF;
    RETURN NEW;
END $$;
DROP TRIGGER IF EXISTS clusters_2_requested ON clusters;
CREATE TRIGGER clusters_2_requested BEFORE UPDATE ON clusters FOR EACH ROW
    WHEN (NEW.adopt_requested_at IS DISTINCT FROM OLD.adopt_requested_at
          OR (NEW.recreate_requested_at IS DISTINCT FROM OLD.recreate_requested_at
              AND NEW.recreate_requested_at IS NOT NULL))
    EXECUTE FUNCTION clusters_requested();

-- What earlier drivers made is not this row's any more.
-- SECURITY DEFINER, because those who may declare need no right to steps.
CREATE OR REPLACE FUNCTION clusters_adopted() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path FROM CURRENT AS $$
BEGIN
    UPDATE cluster_steps SET state = 'removed', message = 'left by a request to adopt'
    WHERE uid = NEW.uid AND state NOT IN ('skipped', 'removed');
    RETURN NULL;
END $$;
DROP TRIGGER IF EXISTS clusters_4_adopted ON clusters;
CREATE TRIGGER clusters_4_adopted AFTER UPDATE ON clusters FOR EACH ROW
    WHEN (NEW.adopt_requested_at IS DISTINCT FROM OLD.adopt_requested_at)
    EXECUTE FUNCTION clusters_adopted();

DROP TRIGGER IF EXISTS clusters_4_ring_update ON clusters;
CREATE TRIGGER clusters_4_ring_update AFTER UPDATE ON clusters FOR EACH ROW
    WHEN (NEW.generation <> OLD.generation OR NEW.paused <> OLD.paused OR NEW.protected <> OLD.protected
          OR NEW.retry_requested_at IS DISTINCT FROM OLD.retry_requested_at
          OR NEW.adopt_requested_at IS DISTINCT FROM OLD.adopt_requested_at
          OR (NEW.recreate_requested_at IS DISTINCT FROM OLD.recreate_requested_at
              AND NEW.recreate_requested_at IS NOT NULL))
    EXECUTE FUNCTION clusters_ring();
DROP TRIGGER IF EXISTS clusters_5_record_update ON clusters;
CREATE TRIGGER clusters_5_record_update AFTER UPDATE ON clusters FOR EACH ROW
    WHEN (NEW.generation <> OLD.generation OR NEW.paused <> OLD.paused OR NEW.protected <> OLD.protected
          OR NEW.retry_requested_at IS DISTINCT FROM OLD.retry_requested_at
          OR NEW.adopt_requested_at IS DISTINCT FROM OLD.adopt_requested_at
          OR NEW.recreate_requested_at IS DISTINCT FROM OLD.recreate_requested_at
          OR NEW.actual_state <> OLD.actual_state OR NEW.failed_attempts > OLD.failed_attempts
          OR NEW.health_failures > OLD.health_failures
          OR NEW.status_reason IS DISTINCT FROM OLD.status_reason)
    EXECUTE FUNCTION clusters_record();

-- Where sql/roles.sql was run before, its roles get what it gives them since.
DO $$
BEGIN
    IF EXISTS (SELECT FROM pg_roles WHERE rolname = 'kindler_daemon')
       AND has_column_privilege('kindler_daemon', 'clusters', 'actual_state', 'UPDATE') THEN
        GRANT UPDATE (driver, engine, recreate_requested_at) ON clusters TO kindler_daemon;
        GRANT UPDATE (adopt_requested_at, recreate_requested_at) ON clusters TO kindler_api;
    END IF;
END $$;
