-- What a daemon does that finds the database older than it has seen it: restored from
-- a backup, or promoted without its last commits. Additive and repeatable.

-- Terms go on above all that may have been issued, and rows that say absent are paused,
-- because they may have been declared present since. The same distance as in
-- sql/after_restore.sql, by which other daemons recognise it. Returns the paused rows;
-- does nothing unless the database has issued fewer terms than `seen`.
-- SECURITY DEFINER, because the daemon's role may neither pause nor set the sequence.
CREATE OR REPLACE FUNCTION kindler_went_back(seen bigint) RETURNS SETOF text
LANGUAGE plpgsql SECURITY DEFINER SET search_path FROM CURRENT AS $$
BEGIN
    -- No claim in between, and one daemon at a time.
    LOCK TABLE cluster_leases IN SHARE ROW EXCLUSIVE MODE;
    IF seen <= coalesce(pg_sequence_last_value('cluster_lease_terms'), 0) THEN
        RETURN;
    END IF;
    -- Not setval: it stays when the transaction fails, and the rows would never be paused.
    EXECUTE format('ALTER SEQUENCE cluster_lease_terms RESTART WITH %s', seen + 1000000000);
    PERFORM nextval('cluster_lease_terms');
    RETURN QUERY UPDATE clusters SET paused = true
        WHERE desired_state = 'absent' AND NOT paused RETURNING name::text;
END $$;
REVOKE EXECUTE ON FUNCTION kindler_went_back(bigint) FROM PUBLIC;

-- Where sql/roles.sql was run before, its roles get what it gives them since.
DO $$
BEGIN
    IF EXISTS (SELECT FROM pg_roles WHERE rolname = 'kindler_daemon')
       AND has_table_privilege('kindler_daemon', 'cluster_leases', 'INSERT') THEN
        GRANT EXECUTE ON FUNCTION kindler_went_back(bigint) TO kindler_daemon;
    END IF;
END $$;
