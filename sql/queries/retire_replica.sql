-- Takes an ending daemon off the list.
-- $1 owner
DELETE FROM kindler_replicas WHERE owner = $1
