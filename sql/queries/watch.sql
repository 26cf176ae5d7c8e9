-- Asks for rings on the channel of the page, for a while.
-- $1 who, $2 for so many seconds
INSERT INTO kindler_watchers AS w (owner, until) VALUES ($1, now() + $2 * interval '1 second')
ON CONFLICT (owner) DO UPDATE SET until = excluded.until
