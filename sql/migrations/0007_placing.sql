-- Which daemon works on what: daemons may select clusters by their labels, and a
-- cluster stays where it was begun. Additive and repeatable.

-- Where a cluster is, or may be: the selector of the daemons there. Written with
-- the intent of each effect, under its fence, and cleared when the cluster is
-- known not to be there.
ALTER TABLE clusters ADD COLUMN IF NOT EXISTS placed_by text;
COMMENT ON COLUMN clusters.placed_by IS 'The selector of the daemons that this cluster was begun by and stays with, whatever its labels are now; daemons without a selector leave it.';

-- Whom a daemon works for: {"place", "requirements"}; none: for every cluster.
ALTER TABLE kindler_replicas ADD COLUMN IF NOT EXISTS selector jsonb;

-- Whether labels fulfil every requirement, [{"key", "op", "values"}]. Without the
-- label, `in` does not hold and `notin` does, as in Kubernetes.
CREATE OR REPLACE FUNCTION kindler_matches(requirements jsonb, labels jsonb) RETURNS boolean
LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$
    SELECT NOT EXISTS (
        SELECT FROM jsonb_array_elements(requirements) AS r
        WHERE NOT CASE r ->> 'op'
            WHEN 'in' THEN coalesce(r -> 'values' ? (labels ->> (r ->> 'key')), false)
            WHEN 'notin' THEN NOT coalesce(r -> 'values' ? (labels ->> (r ->> 'key')), false)
            WHEN 'exists' THEN labels ? (r ->> 'key')
            ELSE NOT labels ? (r ->> 'key')
        END)
$$;

-- Whether a daemon works on a cluster: on what is placed with it, and on what is
-- not placed yet and matches. One expression, so that the planner puts it into
-- the query and labels are only read of rows that are not placed.
CREATE OR REPLACE FUNCTION kindler_takes(selector jsonb, placed_by text, labels jsonb) RETURNS boolean
LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$
    SELECT selector IS NULL
        OR coalesce(placed_by = selector ->> 'place', kindler_matches(selector -> 'requirements', labels))
$$;

-- Labels choose who begins, so changing them rings: only while there are daemons
-- that select, and only for what is not placed.
CREATE OR REPLACE FUNCTION clusters_ring_labels() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path FROM CURRENT AS $$
BEGIN
    IF EXISTS (SELECT FROM kindler_replicas WHERE selector IS NOT NULL) THEN
        PERFORM pg_notify(kindler_channel('wake'), NEW.name);
    END IF;
    RETURN NULL;
END $$;
DROP TRIGGER IF EXISTS clusters_4_ring_labels ON clusters;
CREATE TRIGGER clusters_4_ring_labels AFTER UPDATE OF labels ON clusters FOR EACH ROW
    WHEN (NEW.placed_by IS NULL AND NEW.labels <> OLD.labels)
    EXECUTE FUNCTION clusters_ring_labels();

-- Where sql/roles.sql was run before, its roles get what it gives them since.
DO $$
BEGIN
    IF EXISTS (SELECT FROM pg_roles WHERE rolname = 'kindler_daemon')
       AND has_table_privilege('kindler_daemon', 'cluster_leases', 'INSERT') THEN
        GRANT UPDATE (placed_by) ON clusters TO kindler_daemon;
    END IF;
END $$;
