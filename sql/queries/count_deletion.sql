-- Counts a deletion whose intent is committed with it, once for each wish.
-- $1 name, $2 generation
INSERT INTO cluster_deletions (cluster_name, generation) VALUES ($1, $2) ON CONFLICT DO NOTHING
