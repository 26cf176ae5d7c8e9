-- Run after a backup was restored and before any daemon starts on it. Repeatable.
--
--     psql "$OWNER_URL" -f sql/after_restore.sql
--
-- * Pauses clusters that are declared absent: they may have been declared present
--   again after the backup. Check them (kindler list), then kindler resume NAME.
-- * Deletes all leases and replicas, and raises the sequence of terms far above every
--   term that was issued after the backup; how many were is not known.
-- * Ends the page's sessions. Tokens are those of the backup, including any that were
--   revoked after it: check them (kindler token list).
-- * Stamps rows again whose transaction this server has not reached yet, so that
--   streams do not skip them. Nothing else of these rows changes.
UPDATE clusters SET paused = true WHERE desired_state = 'absent' AND NOT paused;
DELETE FROM cluster_leases;
DELETE FROM kindler_replicas;
DELETE FROM kindler_sessions;
SELECT setval('cluster_lease_terms', last_value + 1000000000) FROM cluster_lease_terms;
UPDATE clusters SET changed_in = changed_in WHERE changed_in > pg_current_xact_id();
