-- A full notification queue fails no commit: triggers notify only while there is room.
-- Additive and repeatable. (kindler_notify is in sql/core, which runs before it.)

-- As in step 3.
CREATE OR REPLACE FUNCTION clusters_ring() RETURNS trigger
LANGUAGE plpgsql SET search_path FROM CURRENT AS $$
BEGIN
    PERFORM kindler_notify(kindler_channel('wake'), NEW.name);
    RETURN NULL;
END $$;

-- As in step 7.
CREATE OR REPLACE FUNCTION clusters_ring_labels() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path FROM CURRENT AS $$
BEGIN
    IF EXISTS (SELECT FROM kindler_replicas WHERE selector IS NOT NULL) THEN
        PERFORM kindler_notify(kindler_channel('wake'), NEW.name);
    END IF;
    RETURN NULL;
END $$;

-- As in step 5.
CREATE OR REPLACE FUNCTION clusters_show() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path FROM CURRENT AS $$
BEGIN
    IF EXISTS (SELECT FROM kindler_watchers WHERE until > now()) THEN
        PERFORM kindler_notify(kindler_channel('page'), 'changed');
    END IF;
    RETURN NULL;
END $$;
