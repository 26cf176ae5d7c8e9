-- Gives a lease back, if it is still the same one.
-- $1 name, $2 term
DELETE FROM cluster_leases WHERE cluster_name = $1 AND term = $2
