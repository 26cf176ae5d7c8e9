-- How far the work on each cluster has come, step by step; and events of steps.
-- Additive and repeatable. (The functions that it calls are those of sql/core,
-- which are created before it.)

SELECT kindler_prepare_steps('clusters', 'cluster_steps');
COMMENT ON TABLE cluster_steps IS 'The steps of each cluster''s driver: written before a step acts and after it ended, under the fence.';

ALTER TABLE cluster_events DROP CONSTRAINT IF EXISTS cluster_events_kind_check;
ALTER TABLE cluster_events ADD CONSTRAINT cluster_events_kind_check CHECK (kind IN
    ('declared', 'changed', 'retry', 'paused', 'resumed', 'protected', 'unprotected',
     'transition', 'attempt', 'health', 'step', 'removed')) NOT VALID;

-- A step that ended. A driver with one step has none of these events: the
-- transition of the cluster says the same.
CREATE OR REPLACE FUNCTION cluster_steps_record() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path FROM CURRENT AS $$
BEGIN
    INSERT INTO cluster_events (cluster_name, uid, kind, actor, generation, term, from_state, to_state,
                                attempt, reason, message)
    SELECT c.name, c.uid, 'step', kindler_actor(), c.generation, NEW.term, c.actual_state, c.actual_state,
           NEW.attempt, NEW.reason, format('step %s: %s', NEW.name, coalesce(NEW.message, NEW.state))
    FROM clusters c WHERE c.uid = NEW.uid;
    RETURN NULL;
END $$;
DROP TRIGGER IF EXISTS cluster_steps_record ON cluster_steps;
CREATE TRIGGER cluster_steps_record AFTER INSERT OR UPDATE ON cluster_steps FOR EACH ROW
    WHEN (NEW.total > 1 AND NEW.state IN ('done', 'failed', 'removed'))
    EXECUTE FUNCTION cluster_steps_record();

-- Where sql/roles.sql was run before, its roles get what it gives them since.
DO $$
BEGIN
    IF EXISTS (SELECT FROM pg_roles WHERE rolname = 'kindler_daemon')
       AND has_table_privilege('kindler_daemon', 'cluster_leases', 'INSERT') THEN
        GRANT SELECT, INSERT, UPDATE ON cluster_steps TO kindler_daemon;
        GRANT SELECT ON cluster_steps TO kindler_api, kindler_reader;
    END IF;
END $$;
