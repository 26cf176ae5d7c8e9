-- Ports that nobody gives are chosen here, so that two clusters never share one by default;
-- times are stored as points in time; a row that could not be read is read as soon as it is
-- mended. Additive and repeatable.

-- 1. Ports of the host.

-- A free port of the host for a field: its traditional default, else the first of its
-- range, else the first of a wide range. `pool`: clusters conflict if they declare the same
-- port in one pool; `taken`: the other ports of the row. Null if none is free.
CREATE OR REPLACE FUNCTION kindler_free_port(
    pool text, preferred integer, first integer, last integer, taken integer[]
) RETURNS integer LANGUAGE sql STABLE SET search_path FROM CURRENT AS $$
    WITH used AS MATERIALIZED (
        SELECT pf_port AS port FROM clusters WHERE pool = 'pf'
        UNION SELECT http_port FROM clusters WHERE pool = 'web'
        UNION SELECT https_port FROM clusters WHERE pool = 'web'
        UNION SELECT unnest(taken))
    SELECT coalesce(
        (SELECT preferred WHERE NOT EXISTS (SELECT FROM used WHERE port = preferred)),
        (SELECT min(p) FROM generate_series(first, last) p
         WHERE NOT EXISTS (SELECT FROM used WHERE port = p)),
        (SELECT min(p) FROM generate_series(20000, 29999) p
         WHERE NOT EXISTS (SELECT FROM used WHERE port = p)))
$$;

-- The ports of the host of a row, with a free one for each that is null.
CREATE OR REPLACE FUNCTION kindler_free_ports(
    INOUT pf_port integer, INOUT http_port integer, INOUT https_port integer
) LANGUAGE plpgsql STABLE SET search_path FROM CURRENT AS $$
#variable_conflict use_variable
BEGIN
    pf_port := coalesce(pf_port,
        kindler_free_port('pf', 19000, 19001, 19999, ARRAY[http_port, https_port]));
    http_port := coalesce(http_port,
        kindler_free_port('web', 18080, 18090, 18442, ARRAY[pf_port, https_port]));
    https_port := coalesce(https_port,
        kindler_free_port('web', 18443, 18443, 18999, ARRAY[pf_port, http_port]));
END $$;

-- One declaration at a time chooses ports, so that two never choose the same. Another one
-- that is not committed is waited for, but not for ever.
-- SECURITY DEFINER, because the choice must see every cluster.
CREATE OR REPLACE FUNCTION clusters_fill_ports() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path FROM CURRENT SET lock_timeout = '3s' AS $$
DECLARE
    was clusters;
    lock bigint := hashtextextended('kindler declares ' || current_schema(), 0);
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
    SELECT * INTO NEW.pf_port, NEW.http_port, NEW.https_port
    FROM kindler_free_ports(NEW.pf_port, NEW.http_port, NEW.https_port);
    IF (NEW.pf_port, NEW.http_port, NEW.https_port) IS NOT NULL THEN
        RETURN NEW;
    END IF;
    RAISE EXCEPTION 'no free port is left for cluster %: give pf_port, http_port and https_port', NEW.name
        USING ERRCODE = 'check_violation';
END $$;

-- Before the checks. Who gives every port pays nothing.
DROP TRIGGER IF EXISTS clusters_0_fill_ports ON clusters;
CREATE TRIGGER clusters_0_fill_ports BEFORE INSERT OR UPDATE OF pf_port, http_port, https_port
    ON clusters FOR EACH ROW
    WHEN (NEW.pf_port IS NULL OR NEW.http_port IS NULL OR NEW.https_port IS NULL)
    EXECUTE FUNCTION clusters_fill_ports();
ALTER TABLE clusters
    ALTER COLUMN pf_port DROP DEFAULT,
    ALTER COLUMN http_port DROP DEFAULT,
    ALTER COLUMN https_port DROP DEFAULT;
COMMENT ON COLUMN clusters.pf_port IS 'Port-forward port on the host; null in an INSERT, or DEFAULT in an UPDATE: a free one.';
COMMENT ON COLUMN clusters.http_port IS 'HTTP port on the host; null in an INSERT, or DEFAULT in an UPDATE: a free one.';
COMMENT ON COLUMN clusters.https_port IS 'HTTPS port on the host; null in an INSERT, or DEFAULT in an UPDATE: a free one.';

-- Says to the session that declares a port which another cluster declares, too. The row is
-- written all the same: scripts give the ports that they use, and clusters of different
-- hosts (`placed_by`) may share one.
CREATE OR REPLACE FUNCTION kindler_warn_of_ports(c clusters) RETURNS void
LANGUAGE plpgsql SET search_path FROM CURRENT AS $$
DECLARE
    used record;
BEGIN
    FOR used IN
        SELECT o.name, f.field, f.port
        FROM clusters o, LATERAL (VALUES
            ('pf_port', c.pf_port, c.pf_port = o.pf_port),
            ('http_port', c.http_port, c.http_port IN (o.http_port, o.https_port)),
            ('https_port', c.https_port, c.https_port IN (o.http_port, o.https_port))) AS f (field, port, same)
        WHERE o.name <> c.name AND o.placed_by IS NOT DISTINCT FROM c.placed_by
          AND (o.pf_port = c.pf_port OR o.http_port IN (c.http_port, c.https_port)
               OR o.https_port IN (c.http_port, c.https_port))
          AND f.same
        ORDER BY o.name, f.field LIMIT 3
    LOOP
        RAISE WARNING '% % of cluster % is also declared by cluster %: both cannot run on one host',
            used.field, used.port, c.name, used.name
            USING HINT = format('UPDATE clusters SET %I = DEFAULT WHERE name = %L gives it a free port.',
                                used.field, c.name);
    END LOOP;
END $$;
CREATE OR REPLACE FUNCTION clusters_warn_of_ports() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path FROM CURRENT AS $$
DECLARE
    n clusters;
BEGIN
    IF TG_OP = 'UPDATE' THEN
        PERFORM kindler_warn_of_ports(NEW);
        RETURN NULL;
    END IF;
    -- Each search reads the whole table: of many rows only some are compared.
    FOR n IN SELECT * FROM inserted LIMIT 10 LOOP
        PERFORM kindler_warn_of_ports(n);
    END LOOP;
    RETURN NULL;
END $$;
DROP TRIGGER IF EXISTS clusters_6_warn_inserted ON clusters;
CREATE TRIGGER clusters_6_warn_inserted AFTER INSERT ON clusters
    REFERENCING NEW TABLE AS inserted
    FOR EACH STATEMENT EXECUTE FUNCTION clusters_warn_of_ports();
DROP TRIGGER IF EXISTS clusters_6_warn_changed ON clusters;
CREATE TRIGGER clusters_6_warn_changed AFTER UPDATE OF pf_port, http_port, https_port
    ON clusters FOR EACH ROW
    WHEN ((NEW.pf_port, NEW.http_port, NEW.https_port)
          IS DISTINCT FROM (OLD.pf_port, OLD.http_port, OLD.https_port))
    EXECUTE FUNCTION clusters_warn_of_ports();

-- 2. Times. `infinity` and years that programs cannot hold are refused; what is stored does
-- not depend on the time zone of a session.

-- Earlier releases stored created_at and updated_at in the zone of the session that wrote
-- them, which was that of the server.
DO $$
DECLARE
    field text;
    used_by text;
BEGIN
    FOREACH field IN ARRAY ARRAY['created_at', 'updated_at'] LOOP
        CONTINUE WHEN (SELECT atttypid FROM pg_attribute
                       WHERE attrelid = 'clusters'::regclass AND attname = field) = 'timestamptz'::regtype;
        EXECUTE format('ALTER TABLE clusters ALTER COLUMN %1$I DROP DEFAULT,
                        ALTER COLUMN %1$I TYPE timestamptz', field);
    END LOOP;
EXCEPTION WHEN feature_not_supported THEN
    GET STACKED DIAGNOSTICS used_by = PG_EXCEPTION_DETAIL;
    RAISE EXCEPTION 'the type of clusters.% cannot be changed: %', field, used_by
        USING ERRCODE = 'feature_not_supported',
              HINT = 'Drop the view, migrate again, and create the view again.';
END $$;
ALTER TABLE clusters ALTER COLUMN created_at SET DEFAULT now(), ALTER COLUMN updated_at SET DEFAULT now();

-- Every column of a time in Kindler's tables. What cannot be represented becomes the nearest
-- time that can: `infinity` still means never.
DO $$
DECLARE
    least CONSTANT text := $q$timestamptz '0001-01-01 00:00:00+00'$q$;
    most CONSTANT text := $q$timestamptz '9999-12-30 00:00:00+00'$q$;
    t record;
    bad boolean;
BEGIN
    FOR t IN
        SELECT c.oid, c.relname AS name,
               string_agg(format('(%1$I IS NULL OR %1$I BETWEEN %2$s AND %3$s)', a.attname, least, most),
                          ' AND ' ORDER BY a.attnum) AS rule,
               string_agg(format('%1$I = least(greatest(%1$I, %2$s), %3$s)', a.attname, least, most),
                          ', ' ORDER BY a.attnum) AS mended
        FROM pg_class c JOIN pg_attribute a ON a.attrelid = c.oid
        WHERE c.relnamespace = current_schema()::regnamespace AND c.relkind = 'r'
          AND c.relname IN ('clusters', 'cluster_leases', 'cluster_events', 'cluster_revisions',
                            'cluster_deletions', 'kindler_replicas', 'kindler_watchers',
                            'kindler_tokens', 'kindler_sessions')
          AND a.attnum > 0 AND NOT a.attisdropped AND a.attgenerated = ''
          AND a.atttypid = 'timestamptz'::regtype
        GROUP BY c.oid, c.relname ORDER BY c.relname
    LOOP
        CONTINUE WHEN EXISTS (SELECT FROM pg_constraint
                              WHERE conrelid = t.oid AND conname = t.name || '_times_in_years_1_to_9999');
        EXECUTE format('SELECT EXISTS (SELECT FROM %I WHERE NOT (%s))', t.name, t.rule) INTO bad;
        IF bad THEN
            -- Some tables are append-only, and it is no change of a declaration.
            EXECUTE format('ALTER TABLE %I DISABLE TRIGGER USER', t.name);
            EXECUTE format('UPDATE %I SET %s WHERE NOT (%s)', t.name, t.mended, t.rule);
            EXECUTE format('ALTER TABLE %I ENABLE TRIGGER USER', t.name);
        END IF;
        EXECUTE format('ALTER TABLE %I ADD CONSTRAINT %I CHECK (%s)',
                       t.name, t.name || '_times_in_years_1_to_9999', t.rule);
    END LOOP;
END $$;

-- 3. A row that could not be read waits for the longest backoff. Whatever a person changes in
-- it, it is read again at once. (The daemon's own write sets the next attempt, too.)
CREATE OR REPLACE FUNCTION clusters_mended() RETURNS trigger
LANGUAGE plpgsql SET search_path FROM CURRENT AS $$
BEGIN
    NEW.next_attempt_at := NULL;
    NEW.next_check_at := NULL;
    RETURN NEW;
END $$;
DROP TRIGGER IF EXISTS clusters_2_mended ON clusters;
CREATE TRIGGER clusters_2_mended BEFORE UPDATE ON clusters FOR EACH ROW
    WHEN (OLD.status_reason = 'RowInvalid' AND NEW.status_reason = 'RowInvalid'
          AND NEW.next_attempt_at IS NOT DISTINCT FROM OLD.next_attempt_at)
    EXECUTE FUNCTION clusters_mended();
DROP TRIGGER IF EXISTS clusters_4_ring_mended ON clusters;
CREATE TRIGGER clusters_4_ring_mended AFTER UPDATE ON clusters FOR EACH ROW
    WHEN (OLD.status_reason = 'RowInvalid' AND OLD.next_attempt_at IS NOT NULL
          AND NEW.next_attempt_at IS NULL)
    EXECUTE FUNCTION clusters_ring();
