-- Run after a backup was restored, before any daemon starts on it (repeatable):
--
--     psql "$OWNER_URL" -f sql/after_restore.sql
--
-- Clusters that are declared absent are paused, because they may have been declared
-- present again after the backup: a person decides (kindler list; kindler resume NAME).
-- Leases, replicas and login sessions are deleted. The sequence of terms advances far
-- beyond every term that was issued after the backup. Tokens are those of the backup,
-- also tokens that were revoked later: check them (kindler token list). Rows whose
-- transaction ID is ahead of this server's counter get a transaction ID of this
-- server; nothing else of them changes.
UPDATE clusters SET paused = true WHERE desired_state = 'absent' AND NOT paused;
DELETE FROM cluster_leases;
DELETE FROM kindler_replicas;
DELETE FROM kindler_sessions;
SELECT setval('cluster_lease_terms', last_value + 1000000000) FROM cluster_lease_terms;
UPDATE clusters SET changed_in = changed_in WHERE changed_in > pg_current_xact_id();
