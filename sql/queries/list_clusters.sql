-- All clusters, by name.
SELECT {cluster} FROM clusters c ORDER BY c.name
