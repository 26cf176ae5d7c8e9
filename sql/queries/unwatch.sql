-- Asks for no more rings, and forgets those who ended without a word.
-- $1 who
DELETE FROM kindler_watchers WHERE owner = $1 OR until < now() - interval '1 hour'
