-- Serializes the beginning of deletions over all replicas, so that they cannot exceed
-- the cap together. The lock is held until the end of the transaction; later
-- statements see what the previous holder committed.
SELECT pg_advisory_xact_lock(hashtextextended('kindler deletes ' || current_schema(), 0))
