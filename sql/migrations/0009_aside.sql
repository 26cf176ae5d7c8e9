-- A daemon says whether it begins nothing, because a later release owns the
-- schema. Additive and repeatable.
ALTER TABLE kindler_replicas ADD COLUMN IF NOT EXISTS aside boolean NOT NULL DEFAULT false;
COMMENT ON COLUMN kindler_replicas.aside IS 'Whether this daemon begins nothing, because the schema is of a later release.';
