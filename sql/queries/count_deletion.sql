-- Counts a deletion in the transaction that commits its intent, once per generation.
-- $1 name, $2 generation
INSERT INTO cluster_deletions (cluster_name, generation) VALUES ($1, $2) ON CONFLICT DO NOTHING
