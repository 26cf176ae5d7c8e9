-- Removes the row of a daemon that ends.
-- $1 owner
DELETE FROM kindler_replicas WHERE owner = $1
