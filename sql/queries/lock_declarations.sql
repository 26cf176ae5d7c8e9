-- Serializes declarations that search free ports, so that two never choose the same.
SELECT pg_advisory_xact_lock(hashtextextended('kindler declares ' || current_schema(), 0))
