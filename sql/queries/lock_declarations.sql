-- Serializes declarations that search free ports, so that two never choose the same. The
-- session limits the wait, and the time that a dead client can hold the lock.
SELECT pg_advisory_xact_lock(hashtextextended('kindler declares ' || current_schema(), 0))
