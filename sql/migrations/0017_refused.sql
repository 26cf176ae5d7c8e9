-- A daemon lists the clusters whose writes the database refuses, because their rows cannot
-- show it. Additive and repeatable.
ALTER TABLE kindler_replicas ADD COLUMN IF NOT EXISTS refused jsonb NOT NULL DEFAULT '[]';
COMMENT ON COLUMN kindler_replicas.refused IS 'Clusters whose last write the database refused, each with the reason and the next attempt.';
