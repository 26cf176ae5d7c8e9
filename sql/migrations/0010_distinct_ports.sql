-- Two ports of one host cannot be one port: a cluster that declares them equal
-- can never be made. (node_port is within the cluster, so it may equal any.)
-- Additive and repeatable.
--
-- Only what is new is judged, as with the other rules: a row that was let in
-- before stays writable, also for a script that writes it as it is by INSERT
-- with ON CONFLICT, and where only another of its ports changes.
CREATE OR REPLACE FUNCTION clusters_check_ports() RETURNS trigger
LANGUAGE plpgsql SET search_path FROM CURRENT AS $$
DECLARE
    was clusters;
    pair record;
BEGIN
    IF TG_OP = 'UPDATE' THEN
        was := OLD;
    ELSE
        SELECT * INTO was FROM clusters WHERE name = NEW.name;
    END IF;
    FOR pair IN SELECT * FROM (VALUES
        ('pf_port', NEW.pf_port, was.pf_port, 'http_port', NEW.http_port, was.http_port),
        ('pf_port', NEW.pf_port, was.pf_port, 'https_port', NEW.https_port, was.https_port),
        ('http_port', NEW.http_port, was.http_port, 'https_port', NEW.https_port, was.https_port)
    ) AS pairs (one, one_is, one_was, other, other_is, other_was)
    LOOP
        IF pair.one_is = pair.other_is
           AND (pair.one_is, pair.other_is) IS DISTINCT FROM (pair.one_was, pair.other_was) THEN
            RAISE EXCEPTION '% and % are both %: use a port of its own for each', pair.one, pair.other, pair.one_is
                USING ERRCODE = 'check_violation', COLUMN = pair.other;
        END IF;
    END LOOP;
    RETURN NEW;
END $$;
DROP TRIGGER IF EXISTS clusters_1_check_ports ON clusters;
CREATE TRIGGER clusters_1_check_ports BEFORE INSERT OR UPDATE OF pf_port, http_port, https_port
    ON clusters FOR EACH ROW EXECUTE FUNCTION clusters_check_ports();
