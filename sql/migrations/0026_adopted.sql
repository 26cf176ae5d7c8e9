-- A row owns the cluster of its name if an action of it began, or if it was taken over: by a person,
-- by an import, or, here, with the table of an earlier system, whose rows have no event of their
-- declaration. Releases that recorded no driver left events of their actions.
-- Additive and repeatable. It is no change of a declaration.
DO $$
DECLARE
    adopted text[];
BEGIN
    SELECT array_agg(c.name) INTO adopted
    FROM clusters c
    WHERE c.driver IS NULL AND c.adopt_requested_at IS NULL
      AND (NOT EXISTS (SELECT FROM cluster_events e
                       WHERE e.cluster_name = c.name AND e.uid = c.uid AND e.kind = 'declared')
           OR EXISTS (SELECT FROM cluster_events e
                      WHERE e.cluster_name = c.name AND e.uid = c.uid AND e.kind = 'transition'
                        AND e.to_state IN ('creating', 'restarting', 'updating', 'stopping', 'deleting')));
    IF adopted IS NOT NULL THEN
        ALTER TABLE clusters DISABLE TRIGGER USER;
        UPDATE clusters SET adopt_requested_at = clock_timestamp() WHERE name = ANY (adopted);
        ALTER TABLE clusters ENABLE TRIGGER USER;
    END IF;
END $$;
