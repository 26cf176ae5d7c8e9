-- A daemon lists in its heartbeat what it has found wrong around it, and what a comparison
-- with the other daemons needs. Each claim reads kindler_timelines (a function of sql/core,
-- which runs before). Additive and repeatable.
ALTER TABLE kindler_replicas ADD COLUMN IF NOT EXISTS findings jsonb NOT NULL DEFAULT '[]';
ALTER TABLE kindler_replicas ADD COLUMN IF NOT EXISTS settings jsonb NOT NULL DEFAULT '{}';
ALTER TABLE kindler_replicas ADD COLUMN IF NOT EXISTS scripts  jsonb NOT NULL DEFAULT '{}';
ALTER TABLE kindler_replicas ADD COLUMN IF NOT EXISTS workload jsonb NOT NULL DEFAULT '{}';
COMMENT ON COLUMN kindler_replicas.findings IS 'What is wrong around this daemon: code, severity, cause, next step, since when.';
COMMENT ON COLUMN kindler_replicas.settings IS 'Its settings that are no secrets, by name.';
COMMENT ON COLUMN kindler_replicas.scripts IS 'The SHA-256 of each command file, by the name of its setting.';
COMMENT ON COLUMN kindler_replicas.workload IS 'Its workers, how many of them work, and how many keys wait.';
