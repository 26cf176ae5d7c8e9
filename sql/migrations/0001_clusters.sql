-- The table of declared clusters: created where there is none, taken over with
-- its rows where the bash system left one. Additive and repeatable.
--
-- The runner has set search_path to the one schema that this belongs to.

-- Exactly the table that existing users have, so that both paths are one.
CREATE TABLE IF NOT EXISTS clusters (
    name       varchar(63) PRIMARY KEY,
    provider   varchar(10) NOT NULL CHECK (provider IN ('k3d', 'kind')),
    subnet     cidr,
    node_port  integer NOT NULL,
    pf_port    integer NOT NULL,
    http_port  integer NOT NULL,
    https_port integer NOT NULL,
    created_at timestamp without time zone DEFAULT CURRENT_TIMESTAMP,
    updated_at timestamp without time zone DEFAULT CURRENT_TIMESTAMP
);

-- Leases, events and revisions refer to the name.
DO $$
BEGIN
    IF NOT EXISTS (
        SELECT FROM pg_index i
        JOIN pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = i.indkey[0]
        WHERE i.indrelid = 'clusters'::regclass AND i.indisunique
          AND i.indnkeyatts = 1 AND i.indpred IS NULL AND a.attname = 'name'
    ) THEN
        ALTER TABLE clusters ADD CONSTRAINT clusters_name_key UNIQUE (name);
    END IF;
END $$;

-- The columns that some users added by hand, and those that Kindler adds.
ALTER TABLE clusters
    ADD COLUMN IF NOT EXISTS desired_state       text,
    ADD COLUMN IF NOT EXISTS actual_state        text,
    ADD COLUMN IF NOT EXISTS last_reconciled_at  timestamptz,
    ADD COLUMN IF NOT EXISTS reconcile_error     text,
    ADD COLUMN IF NOT EXISTS server_ip           text,
    ADD COLUMN IF NOT EXISTS register_portainer  boolean NOT NULL DEFAULT true,
    ADD COLUMN IF NOT EXISTS haproxy_route       boolean NOT NULL DEFAULT true,
    ADD COLUMN IF NOT EXISTS register_argocd     boolean NOT NULL DEFAULT true,
    ADD COLUMN IF NOT EXISTS labels              jsonb   NOT NULL DEFAULT '{}',
    ADD COLUMN IF NOT EXISTS paused              boolean NOT NULL DEFAULT false,
    ADD COLUMN IF NOT EXISTS protected           boolean NOT NULL DEFAULT false,
    ADD COLUMN IF NOT EXISTS retry_requested_at  timestamptz,
    ADD COLUMN IF NOT EXISTS generation          bigint  NOT NULL DEFAULT 1,
    ADD COLUMN IF NOT EXISTS observed_generation bigint  NOT NULL DEFAULT 0,
    ADD COLUMN IF NOT EXISTS observed_spec_hash  text,
    ADD COLUMN IF NOT EXISTS status_reason       text,
    ADD COLUMN IF NOT EXISTS status_message      text,
    ADD COLUMN IF NOT EXISTS failed_attempts     integer NOT NULL DEFAULT 0,
    ADD COLUMN IF NOT EXISTS next_attempt_at     timestamptz,
    ADD COLUMN IF NOT EXISTS health_failures     integer NOT NULL DEFAULT 0,
    ADD COLUMN IF NOT EXISTS last_healthy_at     timestamptz,
    ADD COLUMN IF NOT EXISTS next_check_at       timestamptz;

-- Columns added by hand may have narrower types, or hold nothing. Name and
-- provider become text too: what is too long for them is then told by the rule
-- that names field and limit, and not by the type.
DO $$
DECLARE narrow record;
BEGIN
    FOR narrow IN
        SELECT a.attname AS name, w.type
        FROM (VALUES ('name', 'text'), ('provider', 'text'), ('desired_state', 'text'), ('actual_state', 'text'), ('reconcile_error', 'text'),
                     ('server_ip', 'text'), ('last_reconciled_at', 'timestamptz')) AS w (name, type)
        JOIN pg_attribute a ON a.attrelid = 'clusters'::regclass AND a.attname = w.name
        WHERE a.atttypid <> w.type::regtype
    LOOP
        EXECUTE format('ALTER TABLE clusters ALTER COLUMN %1$I DROP DEFAULT,
                        ALTER COLUMN %1$I TYPE %2$s USING %1$I::%2$s', narrow.name, narrow.type);
    END LOOP;
END $$;
UPDATE clusters SET desired_state = 'present' WHERE desired_state IS NULL;
-- The old reconcile.sh wrote 'absent' as an actual state; nobody looked since.
UPDATE clusters SET actual_state = 'unknown' WHERE actual_state IS NULL OR actual_state = 'absent';
-- The management cluster is listed, never acted on.
UPDATE clusters SET protected = true WHERE name = 'devops' AND NOT protected;

ALTER TABLE clusters
    ALTER COLUMN desired_state SET DEFAULT 'present',
    ALTER COLUMN desired_state SET NOT NULL,
    ALTER COLUMN actual_state  SET DEFAULT 'unknown',
    ALTER COLUMN actual_state  SET NOT NULL,
    ALTER COLUMN node_port     SET DEFAULT 30080,
    ALTER COLUMN pf_port       SET DEFAULT 19000,
    ALTER COLUMN http_port     SET DEFAULT 18080,
    ALTER COLUMN https_port    SET DEFAULT 18443;

-- A word that nobody defined cannot be guessed: say which rows, change nothing.
DO $$
DECLARE bad text;
BEGIN
    SELECT string_agg(format('%s (desired_state %s, actual_state %s)', name, desired_state, actual_state), '; ')
    INTO bad FROM clusters
    WHERE desired_state NOT IN ('present', 'stopped', 'absent')
       OR actual_state NOT IN ('unknown', 'creating', 'running', 'updating', 'stopping', 'stopped', 'failed', 'deleting');
    IF bad IS NOT NULL THEN
        RAISE EXCEPTION 'cannot take over the table clusters: states that Kindler does not know: %', bad
            USING ERRCODE = 'check_violation',
                  HINT = 'Set desired_state to present, stopped or absent and actual_state to unknown, then migrate again.';
    END IF;
END $$;

-- What must hold is a constraint, so that psql can do no harm that the API
-- would refuse. A row that the old system let in is kept, named in a warning,
-- and leaves out the one constraint that it breaks: the trigger of the next
-- migration still holds every later change to the rule.
DO $$
DECLARE
    rule record;
    bad text;
BEGIN
    FOR rule IN SELECT * FROM (VALUES
        ('clusters_name_is_a_label', $q$name ~ '^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$'$q$),
        ('clusters_provider_is_known', $q$provider IN ('k3d', 'kind')$q$),
        ('clusters_k3d_name_at_most_32', $q$provider <> 'k3d' OR length(name) <= 32$q$),
        ('clusters_subnet_is_ipv4_8_to_28', $q$subnet IS NULL OR (family(subnet::cidr) = 4 AND masklen(subnet::cidr) BETWEEN 8 AND 28)$q$),
        ('clusters_node_port_1_to_65535', 'node_port BETWEEN 1 AND 65535'),
        ('clusters_pf_port_1_to_65535', 'pf_port BETWEEN 1 AND 65535'),
        ('clusters_http_port_1_to_65535', 'http_port BETWEEN 1 AND 65535'),
        ('clusters_https_port_1_to_65535', 'https_port BETWEEN 1 AND 65535'),
        ('clusters_labels_is_an_object', $q$jsonb_typeof(labels) = 'object'$q$),
        ('clusters_counts_are_not_negative', 'failed_attempts >= 0 AND health_failures >= 0'),
        ('clusters_desired_state_is_known', $q$desired_state IN ('present', 'stopped', 'absent')$q$),
        ('clusters_actual_state_is_known', $q$actual_state IN ('unknown', 'creating', 'running', 'updating', 'stopping', 'stopped', 'failed', 'deleting')$q$)
    ) AS rules (name, condition)
    LOOP
        CONTINUE WHEN EXISTS (
            SELECT FROM pg_constraint WHERE conrelid = 'clusters'::regclass AND conname = rule.name);
        EXECUTE format('SELECT string_agg(name, '', '') FROM clusters WHERE NOT (%s)', rule.condition) INTO bad;
        IF bad IS NULL THEN
            EXECUTE format('ALTER TABLE clusters ADD CONSTRAINT %I CHECK (%s)', rule.name, rule.condition);
        ELSE
            RAISE WARNING 'these clusters break the rule % and were kept as they are: %', rule.name, bad;
        END IF;
    END LOOP;
END $$;

-- One number for the declared shape. A command that ends well leaves it in
-- observed_spec_hash; while the two differ, the spec is not known to be
-- applied. Being generated, it holds even for changes made with triggers off.
CREATE OR REPLACE FUNCTION kindler_spec_hash(
    provider text, subnet text, node_port integer, pf_port integer, http_port integer,
    https_port integer, register_portainer boolean, haproxy_route boolean, register_argocd boolean
) RETURNS text LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$
    SELECT md5(provider || '|' || coalesce(subnet, '') || '|' || node_port::text || '|' || pf_port::text
        || '|' || http_port::text || '|' || https_port::text || '|' || register_portainer::text
        || '|' || haproxy_route::text || '|' || register_argocd::text)
$$;
ALTER TABLE clusters ADD COLUMN IF NOT EXISTS spec_hash text GENERATED ALWAYS AS (
    kindler_spec_hash(provider, subnet::text, node_port, pf_port, http_port, https_port,
                      register_portainer, haproxy_route, register_argocd)) STORED;

-- A cluster that the old system recorded as running runs as its row says.
-- (Nothing else ever writes observed_generation 0 next to 'running'.)
UPDATE clusters SET observed_generation = generation, observed_spec_hash = spec_hash
WHERE actual_state = 'running' AND desired_state = 'present' AND observed_generation = 0
  AND last_healthy_at IS NULL AND status_reason IS NULL;

-- When a row is to be looked at: the next attempt while desire and record
-- differ, the next check when they agree or when nobody may act. Generated
-- from the facts, so that no trigger, no notification and no memory is needed
-- for the full pass to find what is due; src/plan says the same in Rust.
ALTER TABLE clusters ADD COLUMN IF NOT EXISTS due_at timestamptz GENERATED ALWAYS AS (
    CASE WHEN paused OR protected
           OR (desired_state = 'present' AND actual_state = 'running'
               AND observed_generation = generation
               AND coalesce(observed_spec_hash, '') = kindler_spec_hash(
                   provider, subnet::text, node_port, pf_port, http_port, https_port,
                   register_portainer, haproxy_route, register_argocd))
           OR (desired_state = 'stopped' AND actual_state = 'stopped'
               AND observed_generation = generation)
         THEN coalesce(next_check_at, timestamptz '-infinity')
         ELSE coalesce(next_attempt_at, timestamptz '-infinity')
    END) STORED;
CREATE INDEX IF NOT EXISTS clusters_due ON clusters (due_at, created_at);

COMMENT ON TABLE clusters IS 'Declared clusters: spec and desired_state are people''s, the other states are the reconciler''s.';
COMMENT ON COLUMN clusters.generation IS 'Raised by a trigger when, and only when, spec or desired_state really changes.';
COMMENT ON COLUMN clusters.observed_generation IS 'The generation whose desire was last reached.';
COMMENT ON COLUMN clusters.due_at IS 'When the reconciler looks at this row again; generated.';
COMMENT ON COLUMN clusters.retry_requested_at IS 'Set it to now() to retry at once, with the count of failures started over.';
