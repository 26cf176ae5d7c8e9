-- Compares the triggers, constraints and functions of Kindler with those that this release
-- makes, and reads what else the daemon depends on. One row; none if search_path finds no
-- table. It reads catalogs only, so a lock on a table does not delay it.
-- :tables of Kindler; :kinds, :relations, :names, :fingerprints of what this release makes;
-- :privileges, :kinds_needed, :objects_needed, :columns_needed that the session's role needs
WITH here AS (
    SELECT n.oid AS id, n.nspname AS name, quote_ident(n.nspname) || '.' AS prefix,
           'search_path=' || quote_ident(n.nspname) || ',' AS own_path
    FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
    WHERE c.oid = to_regclass('clusters')
), expected AS (
    SELECT * FROM unnest(:kinds::text[], :relations::text[], :names::text[], :fingerprints::text[])
        AS e (kind, relation, name, fingerprint)
), relations AS (
    SELECT r.oid AS id, r.relname::text AS name
    FROM here JOIN pg_class r ON r.relnamespace = here.id AND r.relkind IN ('r', 'p')
    WHERE r.relname = ANY (:tables::text[])
), found AS (
    -- The operators and constants of a condition are the same in every version of the
    -- server and for every order of columns; its text and the rest of its tree are not. Nor
    -- is the nesting of AND and OR, which the server prints without.
    SELECT 'trigger' AS kind, r.name AS relation, t.tgname::text AS name,
           t.tgenabled IN ('O', 'A') AS enabled, NULL::text AS path,
           concat_ws(' ', t.tgtype, p.proname, encode(t.tgargs, 'escape'),
               CASE WHEN p.pronamespace <> here.id THEN 'elsewhere' END,
               (SELECT string_agg(a.attname, ',' ORDER BY a.attname) FROM pg_attribute a
                WHERE a.attrelid = t.tgrelid AND a.attnum = ANY (t.tgattr)),
               (SELECT md5(nullif(concat_ws(' ',
                    string_agg(rtrim(array_to_string(m.part, ' ')), ' ' ORDER BY m.at)
                        FILTER (WHERE m.part[1] <> 'boolop'),
                    string_agg(DISTINCT rtrim(m.part[2]), ' ') FILTER (WHERE m.part[1] = 'boolop')), ''))
                FROM regexp_matches(t.tgqual::text, '[:](opno|funcid|boolop|constvalue) ([^:}]*)', 'g')
                    WITH ORDINALITY AS m (part, at))) AS fingerprint
    FROM here, relations r
    JOIN pg_trigger t ON t.tgrelid = r.id AND NOT t.tgisinternal
    JOIN pg_proc p ON p.oid = t.tgfoid
    UNION ALL
    -- clusters_provider_check may be absent in a table that was taken over; another
    -- constraint says the same. A key is enforced by an index, a foreign key by triggers.
    SELECT 'constraint', r.name, c.conname::text,
           coalesce((to_jsonb(c) ->> 'conenforced')::boolean, true) AND NOT EXISTS (
               SELECT FROM pg_trigger t WHERE t.tgconstraint = c.oid AND t.tgenabled NOT IN ('O', 'A')),
           NULL,
           concat_ws(' ', c.contype, c.confdeltype, (SELECT f.relname FROM pg_class f WHERE f.oid = c.confrelid),
               (SELECT string_agg(a.attname, ',' ORDER BY a.attname) FROM pg_attribute a
                WHERE a.attrelid = c.conrelid AND a.attnum = ANY (c.conkey)),
               (SELECT md5(nullif(concat_ws(' ',
                    string_agg(rtrim(array_to_string(m.part, ' ')), ' ' ORDER BY m.at)
                        FILTER (WHERE m.part[1] <> 'boolop'),
                    string_agg(DISTINCT rtrim(m.part[2]), ' ') FILTER (WHERE m.part[1] = 'boolop')), ''))
                FROM regexp_matches(c.conbin::text, '[:](opno|funcid|boolop|constvalue) ([^:}]*)', 'g')
                    WITH ORDINALITY AS m (part, at)))
    FROM relations r JOIN pg_constraint c ON c.conrelid = r.id
    WHERE c.contype IN ('c', 'f') AND c.conname <> 'clusters_provider_check'
    UNION ALL
    SELECT 'function', '', replace(p.oid::regprocedure::text, here.prefix, ''), true,
           CASE WHEN NOT starts_with(p.proconfig[1] || ',', here.own_path) THEN p.proconfig[1] END,
           concat_ws(' ', md5(p.prosrc), l.lanname, p.provolatile, p.proparallel,
               CASE WHEN p.prosecdef THEN 'definer' END,
               replace(p.prorettype::regtype::text, here.prefix, ''),
               CASE WHEN p.proconfig IS NULL THEN 'any path'
                    WHEN starts_with(p.proconfig[1] || ',', here.own_path) THEN 'own path'
                    ELSE 'other path' END)
    FROM here JOIN pg_proc p ON p.pronamespace = here.id JOIN pg_language l ON l.oid = p.prolang
    WHERE p.prokind = 'f' AND p.proname ~ '^(kindler|clusters?)_'
), differing AS (
    SELECT coalesce(e.kind, f.kind) AS kind, coalesce(e.relation, f.relation) AS relation,
           coalesce(e.name, f.name) AS name, f.path, f.fingerprint,
           CASE WHEN e.name IS NULL THEN 'additional' WHEN f.name IS NULL THEN 'missing'
                WHEN NOT f.enabled THEN 'disabled' ELSE 'changed' END AS state
    FROM expected e FULL JOIN found f USING (kind, relation, name)
    WHERE e.name IS NULL OR f.name IS NULL OR NOT f.enabled OR f.fingerprint <> e.fingerprint
), needed AS (
    SELECT n.*, to_regclass(n.object) AS relation
    FROM unnest(:privileges::text[], :kinds_needed::text[], :objects_needed::text[], :columns_needed::text[])
        AS n (privilege, kind, object, field)
), lacking AS (
    SELECT n.privilege, n.kind, n.object, n.field
    FROM needed n
    WHERE NOT CASE n.kind
        WHEN 'function' THEN has_function_privilege(to_regprocedure(n.object), n.privilege)
        WHEN 'sequence' THEN has_sequence_privilege(n.relation, n.privilege)
        WHEN 'column' THEN has_column_privilege(n.relation, (
            SELECT a.attnum FROM pg_attribute a
            WHERE a.attrelid = n.relation AND a.attname = n.field AND NOT a.attisdropped), n.privilege)
        ELSE has_table_privilege(n.relation, n.privilege) END
)
SELECT here.name::text AS schema, current_user::text AS role, clock_timestamp() AS read_at,
       (SELECT coalesce(jsonb_agg(to_jsonb(d) ORDER BY d.kind DESC, d.relation, d.name), '[]') FROM differing d) AS differing,
       (SELECT coalesce(jsonb_agg(to_jsonb(l)), '[]') FROM lacking l) AS lacking,
       ARRAY(SELECT t FROM unnest(:tables::text[]) AS t WHERE t NOT IN (SELECT name FROM relations) ORDER BY t) AS missing,
       (SELECT coalesce(array_agg(r.name ORDER BY r.name), '{}') FROM relations r WHERE row_security_active(r.id)) AS hidden,
       current_setting('server_encoding') AS encoding,
       current_setting('fsync')::boolean AS fsync,
       current_setting('full_page_writes')::boolean AS full_page_writes,
       current_setting('session_replication_role') AS replication_role
FROM here
