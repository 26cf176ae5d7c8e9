-- Ends the request for notifications on the page's channel. Also deletes expired
-- requests of processes that crashed.
-- $1 owner
DELETE FROM kindler_watchers WHERE owner = $1 OR until < now() - interval '1 hour'
