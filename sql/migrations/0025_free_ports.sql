-- Free ports are chosen with plans that the session keeps, and a statement that declares many
-- clusters does not search from the first port for each of them. What is chosen stays the same.
-- Repeatable.

-- A free port of the host for a field: its traditional default, else the first of its
-- range, else the first of a wide range. `pool`: clusters conflict if they declare the same
-- port in one pool; `taken`: the other ports of the row. Null if none is free.
CREATE OR REPLACE FUNCTION kindler_free_port(
    pool text, preferred integer, first integer, last integer, taken integer[]
) RETURNS integer LANGUAGE plpgsql STABLE SET search_path FROM CURRENT AS $$
BEGIN
    -- The first free port of a range is its first one, or it follows a used one.
    RETURN (
        WITH used AS MATERIALIZED (
            SELECT pf_port AS port FROM clusters WHERE pool = 'pf'
            UNION SELECT http_port FROM clusters WHERE pool = 'web'
            UNION SELECT https_port FROM clusters WHERE pool = 'web'
            UNION SELECT unnest(taken))
        SELECT coalesce(
            (SELECT preferred WHERE NOT EXISTS (SELECT FROM used WHERE port = preferred)),
            (SELECT first WHERE NOT EXISTS (SELECT FROM used WHERE port = first)),
            (SELECT min(u.port) + 1 FROM used u WHERE u.port >= first AND u.port < last
             AND NOT EXISTS (SELECT FROM used n WHERE n.port = u.port + 1)),
            (SELECT 20000 WHERE NOT EXISTS (SELECT FROM used WHERE port = 20000)),
            (SELECT min(u.port) + 1 FROM used u WHERE u.port BETWEEN 20000 AND 29998
             AND NOT EXISTS (SELECT FROM used n WHERE n.port = u.port + 1))));
END $$;

-- The ports that follow those which this transaction chose last, because all before them are
-- used; null if one of them is used, or if it chose none.
CREATE OR REPLACE FUNCTION kindler_next_ports(
    OUT pf_port integer, OUT http_port integer, OUT https_port integer
) LANGUAGE plpgsql STABLE SET search_path FROM CURRENT AS $$
#variable_conflict use_variable
DECLARE
    chosen constant integer[] := string_to_array(nullif(current_setting('kindler.chosen_ports', true), ''), ',');
BEGIN
    pf_port := chosen[1] + 1;
    -- Both choose from the wide range when their own ranges are used up.
    http_port := CASE
        WHEN chosen[2] = 18080 THEN 18090
        WHEN chosen[2] < 18442 THEN chosen[2] + 1
        WHEN chosen[2] = 18442 THEN 20000
        WHEN chosen[3] >= 20000 THEN greatest(chosen[2], chosen[3]) + 1
        ELSE chosen[2] + 1 END;
    https_port := CASE WHEN chosen[3] < 18999 THEN chosen[3] + 1 ELSE http_port + 1 END;
    IF pf_port IN (20000, http_port, https_port) OR http_port = https_port
       OR greatest(pf_port, http_port, https_port) > 29999
       OR EXISTS (
           SELECT FROM clusters c
           WHERE c.pf_port = pf_port OR c.http_port IN (http_port, https_port)
              OR c.https_port IN (http_port, https_port)) THEN
        pf_port := NULL;
        http_port := NULL;
        https_port := NULL;
    END IF;
END $$;

-- One declaration at a time chooses ports, so that two never choose the same. Another one
-- that is not committed is waited for, but not for ever.
-- SECURITY DEFINER, because the choice must see every cluster.
CREATE OR REPLACE FUNCTION clusters_fill_ports() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path FROM CURRENT SET lock_timeout = '3s' AS $$
DECLARE
    was clusters;
    lock bigint := hashtextextended('kindler declares ' || current_schema(), 0);
    every boolean;
    holder text;
BEGIN
    IF TG_OP = 'INSERT' THEN
        -- An INSERT with ON CONFLICT that gives no port leaves the port as it is.
        SELECT * INTO was FROM clusters WHERE name = NEW.name;
        NEW.pf_port := coalesce(NEW.pf_port, was.pf_port);
        NEW.http_port := coalesce(NEW.http_port, was.http_port);
        NEW.https_port := coalesce(NEW.https_port, was.https_port);
    END IF;
    IF (NEW.pf_port, NEW.http_port, NEW.https_port) IS NOT NULL THEN
        RETURN NEW;
    END IF;
    every := (NEW.pf_port, NEW.http_port, NEW.https_port) IS NULL;
    BEGIN
        PERFORM pg_advisory_xact_lock(lock);
    EXCEPTION WHEN lock_not_available THEN
        SELECT string_agg(format('pid %s (%s, %s, %s)', a.pid, a.application_name, a.usename, a.state), ', ')
        INTO holder FROM pg_locks l JOIN pg_stat_activity a USING (pid)
        WHERE l.locktype = 'advisory' AND l.granted AND l.objsubid = 1
          AND l.database = (SELECT oid FROM pg_database WHERE datname = current_database())
          AND (l.classid::bigint << 32 | l.objid::bigint) = lock;
        RAISE EXCEPTION 'no port can be chosen for cluster % now: another declaration has not committed: %',
            NEW.name, coalesce(holder, 'it ended meanwhile')
            USING ERRCODE = 'lock_not_available',
                  HINT = 'Commit or end that session, or give pf_port, http_port and https_port.';
    END;
    IF every THEN
        SELECT * INTO NEW.pf_port, NEW.http_port, NEW.https_port FROM kindler_next_ports();
    END IF;
    IF NEW.pf_port IS NULL OR NOT every THEN
        SELECT * INTO NEW.pf_port, NEW.http_port, NEW.https_port
        FROM kindler_free_ports(NEW.pf_port, NEW.http_port, NEW.https_port);
    END IF;
    IF (NEW.pf_port, NEW.http_port, NEW.https_port) IS NOT NULL THEN
        IF every THEN
            PERFORM set_config('kindler.chosen_ports',
                concat_ws(',', NEW.pf_port, NEW.http_port, NEW.https_port), true);
        END IF;
        RETURN NEW;
    END IF;
    RAISE EXCEPTION 'no free port is left for cluster %: give pf_port, http_port and https_port', NEW.name
        USING ERRCODE = 'check_violation';
END $$;
