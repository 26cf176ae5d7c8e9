-- Who changed labels stands in the books as well: they choose which daemon begins
-- a cluster, and people find it by them. Additive and repeatable.
--
-- A trigger of its own, so that nothing else that is written pays for it. The
-- generation stays: labels are no part of the spec.
CREATE OR REPLACE FUNCTION clusters_record_labels() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path FROM CURRENT AS $$
BEGIN
    INSERT INTO cluster_events (cluster_name, kind, actor, generation, change)
    VALUES (NEW.name, 'changed', kindler_actor(), NEW.generation,
            jsonb_build_object('labels', jsonb_build_array(OLD.labels, NEW.labels)));
    RETURN NULL;
END $$;
DROP TRIGGER IF EXISTS clusters_5_record_labels ON clusters;
CREATE TRIGGER clusters_5_record_labels AFTER UPDATE OF labels ON clusters FOR EACH ROW
    WHEN (NEW.labels <> OLD.labels)
    EXECUTE FUNCTION clusters_record_labels();
