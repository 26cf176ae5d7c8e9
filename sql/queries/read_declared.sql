-- Seconds since a generation of a cluster was declared.
-- $1 name, $2 generation
SELECT extract(epoch FROM clock_timestamp() - at)::float8 AS seconds
FROM cluster_revisions WHERE cluster_name = $1 AND generation = $2
