-- After a backup was restored, and before any daemon starts on it (repeatable):
--
--     psql "$OWNER_URL" -f sql/after_restore.sql
--
-- What the backup wants gone may have been wanted again since: it is paused, so
-- that a person looks at it first (kindler list; kindler resume NAME). Who held
-- what at the time of the backup is forgotten, and terms go on above all that
-- were given since, which nobody knows: far above. The page's logins end. Tokens
-- are those of the backup, also the ones that were revoked since: look at them
-- (kindler token list). Rows that were written by transactions which this server
-- has not counted to yet are stamped by one of its own; nothing else of them changes.
UPDATE clusters SET paused = true WHERE desired_state = 'absent' AND NOT paused;
DELETE FROM cluster_leases;
DELETE FROM kindler_replicas;
DELETE FROM kindler_sessions;
SELECT setval('cluster_lease_terms', last_value + 1000000000) FROM cluster_lease_terms;
UPDATE clusters SET changed_in = changed_in WHERE changed_in > pg_current_xact_id();
