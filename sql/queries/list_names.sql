-- The names of all clusters.
SELECT name FROM clusters
