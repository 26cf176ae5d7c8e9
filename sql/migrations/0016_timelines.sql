-- The history of the server on which leases are issued. Additive and repeatable. (The table
-- and its functions are those of sql/core, which are created before.)
COMMENT ON TABLE kindler_timelines IS 'The server and timeline on which leases are issued, and since when.';
