-- One replica at a time begins a deletion, so that two never count the same
-- place under the cap. Held until the end of the transaction; the statements
-- after it see what the one before committed.
SELECT pg_advisory_xact_lock(hashtextextended('kindler deletes ' || current_schema(), 0))
