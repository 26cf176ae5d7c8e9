-- Writes what the workers of a daemon do and what waits for them.
-- $1 owner, $2 workload
UPDATE kindler_replicas SET workload = $2 WHERE owner = $1
