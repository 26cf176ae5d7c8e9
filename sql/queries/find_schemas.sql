-- The schemas that have Kindler's tables, whether search_path names them or not; whether this
-- role may use each; and whether its functions still name another schema, as after a rename.
SELECT n.nspname::text AS schema, has_schema_privilege(n.oid, 'USAGE') AS usable,
       EXISTS (
           SELECT FROM pg_proc p
           WHERE p.pronamespace = n.oid AND p.proname = 'kindler_channel'
             AND NOT starts_with(p.proconfig[1] || ',', 'search_path=' || quote_ident(n.nspname) || ',')
       ) AS renamed
FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE c.relname = 'kindler_migrations' AND c.relkind = 'r'
ORDER BY n.nspname
LIMIT 5
