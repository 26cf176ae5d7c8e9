-- One cluster.
-- $1 name
SELECT {cluster} FROM clusters c WHERE c.name = $1
