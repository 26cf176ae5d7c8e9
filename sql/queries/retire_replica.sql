-- Takes an ending daemon off the list, and those that nobody saw for an hour.
-- $1 owner
DELETE FROM kindler_replicas WHERE owner = $1 OR seen_at < clock_timestamp() - interval '1 hour'
