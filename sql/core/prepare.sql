-- Prepares a table, so that its rows are reconciled. Repeatable: a call only adds what
-- is missing.
--
--     SELECT kindler_prepare_table('folders', 'name', ARRAY['mode', 'files']);
--
-- adds columns for identity, generation and status to the table `folders`, whose text
-- column `name` is unique, and creates the tables `folders_leases`, `folders_steps` and
-- `folders_events` and the sequence `folders_terms`. From then on
--
-- * an INSERT, a DELETE and an UPDATE that really changes a desired column raise
--   the row's generation, make it due at once and notify kindler_table_channel(...);
-- * a status write does none of that, so the reconciler never wakes itself, and
--   commits of status writes do not wait for one another;
-- * a DELETE sets deleted_at and keeps the row until its reconciler has verified
--   that nothing is left and removes it under its lease;
-- * `due_at` is generated and indexed, so the cost of a full pass depends on the number
--   of due rows, not on the size of the table.
--
-- Each function has the schema as its search_path, because it may run in a session with
-- another one.

-- The channel on which changes of a table are notified. A channel belongs to the whole
-- database, so its name contains the schema.
CREATE OR REPLACE FUNCTION kindler_table_channel(resource text) RETURNS text
LANGUAGE sql STABLE SET search_path FROM CURRENT AS $$
    SELECT left('kindler_' || resource || '_' || current_schema(), 63)
$$;

-- Whether notifications are sent: not while the server's queue of them is nearly full,
-- because some session listens and does not read. At the end of the queue every commit
-- that notifies would fail. Full passes find the changes meanwhile. A commit can still
-- fail if the queue fills up between this check and its end.
CREATE OR REPLACE FUNCTION kindler_notifies() RETURNS boolean
LANGUAGE sql VOLATILE AS $$
    SELECT pg_catalog.pg_notification_queue_usage() < 0.9
$$;

-- Neither has a search_path of its own: functions that have one call them for each changed
-- row, and Postgres inlines the first one.
CREATE OR REPLACE FUNCTION kindler_notify(channel text, payload text) RETURNS void
LANGUAGE plpgsql AS $$
BEGIN
    IF kindler_notifies() THEN
        PERFORM pg_catalog.pg_notify(channel, payload);
    END IF;
END $$;

-- The leases: which owner works on which row. They have a table of their own, because
-- each renewal would rewrite a wide row. Only the keys are indexed, so a renewal writes
-- no index (a HOT update). Terms come from one sequence: a later claim of any row, even
-- of one that was removed and inserted again, has the larger number.
CREATE OR REPLACE FUNCTION kindler_prepare_leases(resource regclass, key name, leases name, terms name)
RETURNS void LANGUAGE plpgsql SET search_path FROM CURRENT AS $$
BEGIN
    EXECUTE format('CREATE SEQUENCE IF NOT EXISTS %I', terms);
    EXECUTE format('CREATE TABLE IF NOT EXISTS %I (
        key         text        PRIMARY KEY REFERENCES %s (%I) ON DELETE CASCADE,
        uid         uuid        NOT NULL,
        owner       text        NOT NULL,
        term        bigint      NOT NULL UNIQUE,
        acquired_at timestamptz NOT NULL,
        renewed_at  timestamptz NOT NULL,
        expires_at  timestamptz NOT NULL)', leases, resource, key);
END $$;

-- The server and its timeline, which changes when a standby is promoted or a backup is
-- restored. A constant where the server does not tell it: such a change is then not noticed.
CREATE OR REPLACE FUNCTION kindler_server_timeline() RETURNS text
LANGUAGE plpgsql AS $$
BEGIN
    RETURN (SELECT system_identifier FROM pg_control_system())
        || '/' || left(pg_walfile_name(pg_current_wal_insert_lsn()), 8);
EXCEPTION WHEN OTHERS THEN
    RETURN 'unknown';
END $$;

-- On which one leases are issued, and since when. Another one may lack the last claims and
-- renewals: the first full pass on it writes it here, and no row is claimed until every
-- lease of the earlier one has ended.
CREATE TABLE IF NOT EXISTS kindler_timelines (
    is_current boolean     PRIMARY KEY DEFAULT true CHECK (is_current),
    timeline   text        NOT NULL,
    since      timestamptz NOT NULL
);
INSERT INTO kindler_timelines (timeline, since) VALUES (kindler_server_timeline(), 'epoch')
ON CONFLICT (is_current) DO NOTHING;

-- Leases are issued on this server from now on, if they were not before.
-- SECURITY DEFINER, because those who claim need no right to the table.
CREATE OR REPLACE FUNCTION kindler_open_timeline() RETURNS boolean
LANGUAGE plpgsql SECURITY DEFINER SET search_path FROM CURRENT AS $$
DECLARE
    now_on text := kindler_server_timeline();
BEGIN
    -- An error that passes does not make a known server an unknown one.
    IF now_on <> 'unknown' AND NOT EXISTS (SELECT FROM kindler_timelines WHERE timeline = now_on) THEN
        INSERT INTO kindler_timelines AS t (timeline, since) VALUES (now_on, clock_timestamp())
        ON CONFLICT (is_current) DO UPDATE SET timeline = excluded.timeline, since = excluded.since
            WHERE t.timeline <> excluded.timeline;
    END IF;
    RETURN true;
END $$;

-- Each claim reads it. It holds no secret.
GRANT SELECT ON kindler_timelines TO PUBLIC;

-- Seconds until a row may be claimed on this server, with leases of this lifetime: none,
-- except after a change of the server, and a second until that is noticed. The session
-- keeps the timeline (kindler.timeline), because it is read from a file: a session that
-- writes ends before its server's timeline changes.
CREATE OR REPLACE FUNCTION kindler_timeline_wait(lifetime float8) RETURNS float8
LANGUAGE plpgsql SECURITY DEFINER SET search_path FROM CURRENT AS $$
DECLARE
    now_on text := kindler_server_timeline();
BEGIN
    PERFORM set_config('kindler.timeline', now_on, false);
    RETURN coalesce(
        (SELECT greatest(0, extract(epoch FROM since - clock_timestamp()) + lifetime)
         FROM kindler_timelines WHERE timeline = now_on), 1);
END $$;

-- The recorded steps of the work on each row: one row for each step of its driver. They
-- have the row's UID, so a later row of the same name starts with none.
CREATE OR REPLACE FUNCTION kindler_prepare_steps(resource regclass, steps name)
RETURNS void LANGUAGE plpgsql SET search_path FROM CURRENT AS $$
BEGIN
    EXECUTE format('CREATE TABLE IF NOT EXISTS %I (
        uid         uuid        NOT NULL REFERENCES %s (uid) ON DELETE CASCADE,
        driver      text        NOT NULL,
        name        text        NOT NULL,
        position    integer     NOT NULL,
        total       integer     NOT NULL,
        version     integer     NOT NULL,
        required    boolean     NOT NULL,
        state       text        NOT NULL CHECK (state IN
            (''pending'', ''running'', ''done'', ''failed'', ''skipped'', ''removing'', ''removed'')),
        attempt     integer     NOT NULL DEFAULT 0 CHECK (attempt >= 0),
        reason      text,
        message     text,
        input_hash  text,
        term        bigint,
        started_at  timestamptz CHECK (isfinite(started_at)),
        finished_at timestamptz CHECK (isfinite(finished_at)),
        next_try_at timestamptz CHECK (isfinite(next_try_at)),
        CHECK (position > 0 AND total > 0 AND version > 0),
        PRIMARY KEY (uid, driver, name))', steps, resource);
END $$;

-- A desired column has changed: the generation rises, the count of failures starts over.
CREATE OR REPLACE FUNCTION kindler_row_declared() RETURNS trigger
LANGUAGE plpgsql SET search_path FROM CURRENT AS $$
BEGIN
    NEW.generation := OLD.generation + 1;
    NEW.failed_attempts := 0;
    NEW.next_attempt_at := NULL;
    RETURN NEW;
END $$;

-- A person requests an attempt at once.
CREATE OR REPLACE FUNCTION kindler_row_retried() RETURNS trigger
LANGUAGE plpgsql SET search_path FROM CURRENT AS $$
BEGIN
    NEW.failed_attempts := 0;
    NEW.next_attempt_at := NULL;
    -- Due at once, also if the row is as declared: null would mean never.
    NEW.next_check_at := '-infinity';
    RETURN NEW;
END $$;

CREATE OR REPLACE FUNCTION kindler_row_keep() RETURNS trigger
LANGUAGE plpgsql SET search_path FROM CURRENT AS $$
BEGIN
    RAISE EXCEPTION 'key and uid of a row of % cannot be changed: insert another row and delete this one', TG_TABLE_NAME
        USING ERRCODE = 'check_violation';
END $$;

-- The payload names a row and carries no order. Postgres sends equal payloads of one
-- transaction once.
CREATE OR REPLACE FUNCTION kindler_row_notify() RETURNS trigger
LANGUAGE plpgsql SET search_path FROM CURRENT AS $$
BEGIN
    PERFORM kindler_notify(kindler_table_channel(TG_TABLE_NAME), to_jsonb(NEW) ->> TG_ARGV[0]);
    RETURN NULL;
END $$;

-- A DELETE only declares the row deleted. The row is removed by the owner of its lease,
-- after it has verified that nothing is left: it proves that with the term, in the
-- setting kindler.fence.
-- SECURITY DEFINER, because those who may delete need no right to leases.
CREATE OR REPLACE FUNCTION kindler_row_finalize() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path FROM CURRENT AS $$
DECLARE
    fenced boolean;
BEGIN
    EXECUTE format('SELECT EXISTS (SELECT FROM %I WHERE uid = $1 AND expires_at > clock_timestamp()
                    AND term::text = current_setting(''kindler.fence'', true))', TG_ARGV[0])
        INTO fenced USING OLD.uid;
    IF OLD.deleted_at IS NOT NULL AND fenced THEN
        RETURN OLD;
    END IF;
    IF OLD.deleted_at IS NULL THEN
        EXECUTE format('UPDATE %I.%I SET deleted_at = now() WHERE uid = $1', TG_TABLE_SCHEMA, TG_TABLE_NAME)
            USING OLD.uid;
    END IF;
    RETURN NULL;
END $$;

CREATE OR REPLACE FUNCTION kindler_row_truncate() RETURNS trigger
LANGUAGE plpgsql SET search_path FROM CURRENT AS $$
BEGIN
    RAISE EXCEPTION 'TRUNCATE % would orphan the objects of its rows: use DELETE', TG_TABLE_NAME
        USING ERRCODE = 'check_violation';
END $$;

-- Events: what changed, and the actor. The transaction of the change writes them.
-- SECURITY DEFINER, because those who may declare need no right to events.
CREATE OR REPLACE FUNCTION kindler_row_event() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path FROM CURRENT AS $$
DECLARE
    is_now jsonb := to_jsonb(CASE WHEN TG_OP = 'DELETE' THEN OLD ELSE NEW END);
    was jsonb := CASE WHEN TG_OP = 'UPDATE' THEN to_jsonb(OLD) END;
BEGIN
    EXECUTE format('INSERT INTO %I (key, uid, kind, actor, generation, from_state, to_state, attempt, reason, message)
                    VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)', TG_ARGV[0])
    USING is_now ->> TG_ARGV[1], (is_now ->> 'uid')::uuid,
          CASE WHEN TG_OP = 'INSERT' THEN 'declared'
               WHEN TG_OP = 'DELETE' THEN 'removed'
               WHEN is_now -> 'generation' <> was -> 'generation' THEN
                   CASE WHEN is_now ->> 'deleted_at' IS NULL THEN 'changed' ELSE 'deleted' END
               WHEN is_now -> 'retry_requested_at' IS DISTINCT FROM was -> 'retry_requested_at' THEN 'retry'
               WHEN is_now -> 'state' <> was -> 'state' THEN 'transition'
               ELSE 'attempt' END,
          coalesce(nullif(current_setting('kindler.actor', true), ''), session_user::text),
          (is_now ->> 'generation')::bigint, was ->> 'state',
          CASE WHEN TG_OP <> 'DELETE' THEN is_now ->> 'state' END,
          (is_now ->> 'failed_attempts')::integer, is_now ->> 'reason', is_now ->> 'message';
    RETURN NULL;
END $$;

CREATE OR REPLACE FUNCTION kindler_prepare_table(resource regclass, key name, desired name[])
RETURNS void LANGUAGE plpgsql SET search_path FROM CURRENT AS $$
DECLARE
    base text := (SELECT relname FROM pg_class WHERE oid = resource);
    leases text := base || '_leases';
    events text := base || '_events';
    changed text := (
        SELECT string_agg(format('NEW.%1$I IS DISTINCT FROM OLD.%1$I', d), ' OR ')
        FROM unnest(desired || 'deleted_at'::name) AS d);
    trigger record;
    taken text := (
        SELECT string_agg(attname, ', ') FROM pg_attribute
        WHERE attrelid = resource AND attnum > 0 AND NOT attisdropped AND attname IN (
            'deleted_at', 'generation', 'observed_generation', 'state', 'reason', 'message',
            'failed_attempts', 'next_attempt_at', 'next_check_at', 'retry_requested_at',
            'last_reconciled_at', 'due_at'));
BEGIN
    -- Names of 64 bytes are cut, so two triggers would get one name.
    IF octet_length(base) > 40 THEN
        RAISE EXCEPTION 'the name of table % has % bytes: use at most 40', base, octet_length(base)
            USING ERRCODE = 'name_too_long', HINT = 'Its triggers and tables are named after it.';
    END IF;
    IF taken IS NOT NULL AND to_regclass(format('%I', leases)) IS NULL THEN
        RAISE EXCEPTION 'table % has columns of its own that the reconciler would write: %', base, taken
            USING ERRCODE = 'duplicate_column', HINT = 'Rename them, then prepare the table again.';
    END IF;
    EXECUTE format('ALTER TABLE %s
        ADD COLUMN IF NOT EXISTS uid                 uuid        NOT NULL DEFAULT gen_random_uuid(),
        ADD COLUMN IF NOT EXISTS created_at          timestamptz NOT NULL DEFAULT now(),
        ADD COLUMN IF NOT EXISTS deleted_at          timestamptz,
        ADD COLUMN IF NOT EXISTS generation          bigint      NOT NULL DEFAULT 1,
        ADD COLUMN IF NOT EXISTS observed_generation bigint      NOT NULL DEFAULT 0,
        ADD COLUMN IF NOT EXISTS state               text        NOT NULL DEFAULT ''pending''
            CHECK (state IN (''pending'', ''working'', ''ready'', ''failed'', ''deleting'')),
        ADD COLUMN IF NOT EXISTS reason              text,
        ADD COLUMN IF NOT EXISTS message             text,
        ADD COLUMN IF NOT EXISTS failed_attempts     integer     NOT NULL DEFAULT 0,
        ADD COLUMN IF NOT EXISTS next_attempt_at     timestamptz,
        ADD COLUMN IF NOT EXISTS next_check_at       timestamptz,
        ADD COLUMN IF NOT EXISTS retry_requested_at  timestamptz,
        ADD COLUMN IF NOT EXISTS last_reconciled_at  timestamptz', resource);
    EXECUTE format('ALTER TABLE %s ADD COLUMN IF NOT EXISTS due_at timestamptz GENERATED ALWAYS AS (
        CASE WHEN deleted_at IS NULL AND state = ''ready'' AND observed_generation = generation
             THEN coalesce(next_check_at, timestamptz ''infinity'')
             ELSE coalesce(next_attempt_at, timestamptz ''-infinity'') END) STORED', resource);
    EXECUTE format('CREATE UNIQUE INDEX IF NOT EXISTS %I ON %s (uid)', base || '_uid', resource);
    EXECUTE format('CREATE INDEX IF NOT EXISTS %I ON %s (due_at, created_at)', base || '_due', resource);
    PERFORM kindler_prepare_leases(resource, key, leases, base || '_terms');
    PERFORM kindler_prepare_steps(resource, base || '_steps');
    EXECUTE format('CREATE TABLE IF NOT EXISTS %I (
        id         bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
        key        text        NOT NULL,
        uid        uuid        NOT NULL,
        at         timestamptz NOT NULL DEFAULT clock_timestamp(),
        kind       text        NOT NULL,
        actor      text        NOT NULL,
        generation bigint      NOT NULL,
        from_state text,
        to_state   text,
        attempt    integer,
        reason     text,
        message    text)', events);
    EXECUTE format('CREATE INDEX IF NOT EXISTS %I ON %I (key, id)', events || '_of_key', events);
    -- The triggers act as the owner of their functions, which may be another role.
    EXECUTE format('GRANT SELECT, INSERT ON %I TO %s', events,
        (SELECT proowner::regrole FROM pg_proc WHERE oid = 'kindler_row_event()'::regprocedure));
    EXECUTE format('GRANT SELECT ON %I TO %s', leases,
        (SELECT proowner::regrole FROM pg_proc WHERE oid = 'kindler_row_finalize()'::regprocedure));
    EXECUTE format('GRANT SELECT, UPDATE ON %s TO %s', resource,
        (SELECT proowner::regrole FROM pg_proc WHERE oid = 'kindler_row_finalize()'::regprocedure));

    FOR trigger IN SELECT * FROM (VALUES
        ('1_keep', 'BEFORE UPDATE', format('FOR EACH ROW WHEN (NEW.uid <> OLD.uid OR NEW.%1$I <> OLD.%1$I)', key),
         'kindler_row_keep()'),
        ('2_declared', 'BEFORE UPDATE', format('FOR EACH ROW WHEN (%s)', changed), 'kindler_row_declared()'),
        ('2_retried', 'BEFORE UPDATE', 'FOR EACH ROW WHEN (NEW.retry_requested_at IS DISTINCT FROM OLD.retry_requested_at)',
         'kindler_row_retried()'),
        ('3_finalize', 'BEFORE DELETE', 'FOR EACH ROW', format('kindler_row_finalize(%L)', leases)),
        ('3_truncate', 'BEFORE TRUNCATE', 'FOR EACH STATEMENT', 'kindler_row_truncate()'),
        ('4_notify_insert', 'AFTER INSERT', 'FOR EACH ROW', format('kindler_row_notify(%L)', key)),
        ('4_notify_update', 'AFTER UPDATE', 'FOR EACH ROW WHEN (NEW.generation <> OLD.generation
            OR NEW.retry_requested_at IS DISTINCT FROM OLD.retry_requested_at)', format('kindler_row_notify(%L)', key)),
        ('5_event', 'AFTER INSERT OR DELETE', 'FOR EACH ROW', format('kindler_row_event(%L, %L)', events, key)),
        ('5_event_update', 'AFTER UPDATE', 'FOR EACH ROW WHEN (NEW.generation <> OLD.generation
            OR NEW.retry_requested_at IS DISTINCT FROM OLD.retry_requested_at OR NEW.state <> OLD.state
            OR NEW.failed_attempts > OLD.failed_attempts)', format('kindler_row_event(%L, %L)', events, key))
    ) AS t (name, event, condition, call)
    LOOP
        EXECUTE format('DROP TRIGGER IF EXISTS %I ON %s', base || '_' || trigger.name, resource);
        EXECUTE format('CREATE TRIGGER %I %s ON %s %s EXECUTE FUNCTION %s',
                       base || '_' || trigger.name, trigger.event, resource, trigger.condition, trigger.call);
    END LOOP;
END $$;
