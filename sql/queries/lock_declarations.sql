-- One declaration with free ports at a time, so that two never pick the same.
SELECT pg_advisory_xact_lock(hashtextextended('kindler declares ' || current_schema(), 0))
