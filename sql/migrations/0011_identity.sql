-- Each row has an identity besides its name, because names are used again:
-- what is known of a removed cluster never speaks for a later one of the same
-- name. Additive and repeatable.

-- Made by the insert and kept for ever. A restored dump brings its own.
ALTER TABLE clusters ADD COLUMN IF NOT EXISTS uid uuid NOT NULL DEFAULT gen_random_uuid();
CREATE UNIQUE INDEX IF NOT EXISTS clusters_uid ON clusters (uid);
COMMENT ON COLUMN clusters.uid IS 'The identity of this row: another row of the same name has another.';

CREATE OR REPLACE FUNCTION clusters_keep_uid() RETURNS trigger
LANGUAGE plpgsql SET search_path FROM CURRENT AS $$
BEGIN
    RAISE EXCEPTION 'uid cannot be changed: it is the identity of cluster %', OLD.name
        USING ERRCODE = 'check_violation', COLUMN = 'uid';
END $$;
DROP TRIGGER IF EXISTS clusters_1_keep_uid ON clusters;
CREATE TRIGGER clusters_1_keep_uid BEFORE UPDATE OF uid ON clusters FOR EACH ROW
    WHEN (NEW.uid IS DISTINCT FROM OLD.uid)
    EXECUTE FUNCTION clusters_keep_uid();

-- Nothing where an earlier release wrote: there the order of events tells which
-- row they are about (those after the last 'removed' are about the present one).
ALTER TABLE cluster_events    ADD COLUMN IF NOT EXISTS uid uuid;
ALTER TABLE cluster_revisions ADD COLUMN IF NOT EXISTS uid uuid;
-- An earlier release that still finishes its work writes leases without it.
ALTER TABLE cluster_leases    ADD COLUMN IF NOT EXISTS uid uuid;

-- As in step 3, with the identity.
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
        ('paused', NEW.paused AND NOT OLD.paused),
        ('resumed', OLD.paused AND NOT NEW.paused),
        ('protected', NEW.protected AND NOT OLD.protected),
        ('unprotected', OLD.protected AND NOT NEW.protected)) AS k (kind, happened)
    WHERE k.happened;

    IF NEW.actual_state <> OLD.actual_state
       OR NEW.failed_attempts > OLD.failed_attempts
       OR NEW.health_failures > OLD.health_failures
       OR NEW.status_reason IS DISTINCT FROM OLD.status_reason THEN
        INSERT INTO cluster_events (cluster_name, uid, kind, actor, generation, term, from_state, to_state,
                                    attempt, reason, message, error)
        VALUES (e.cluster_name, e.uid,
                CASE WHEN NEW.actual_state <> OLD.actual_state THEN 'transition'
                     WHEN NEW.failed_attempts > OLD.failed_attempts THEN 'attempt'
                     ELSE 'health' END,
                e.actor, e.generation,
                (SELECT term FROM cluster_leases WHERE cluster_name = NEW.name),
                OLD.actual_state, NEW.actual_state, NEW.failed_attempts,
                NEW.status_reason, NEW.status_message, NEW.reconcile_error);
    END IF;
    RETURN NULL;
END $$;

-- As in step 8, with the identity.
CREATE OR REPLACE FUNCTION clusters_record_labels() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path FROM CURRENT AS $$
BEGIN
    INSERT INTO cluster_events (cluster_name, uid, kind, actor, generation, change)
    VALUES (NEW.name, NEW.uid, 'changed', kindler_actor(), NEW.generation,
            jsonb_build_object('labels', jsonb_build_array(OLD.labels, NEW.labels)));
    RETURN NULL;
END $$;
