-- Requests notifications on the page's channel for a limited time.
-- $1 owner, $2 seconds
INSERT INTO kindler_watchers AS w (owner, until) VALUES ($1, now() + $2 * interval '1 second')
ON CONFLICT (owner) DO UPDATE SET until = excluded.until
