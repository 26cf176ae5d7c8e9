-- Says that a daemon is here, or still here; and takes those off the list that
-- nobody saw for an hour, because who crashes cannot do it.
-- $1 owner, $2 host, $3 pid, $4 version, $5 listen address, $6 whether its listener listens,
-- $7 what else a person should know of it, $8 for which clusters it works, if not for all,
-- $9 whether it begins nothing
WITH crashed AS (
    DELETE FROM kindler_replicas
    WHERE owner <> $1 AND seen_at < clock_timestamp() - interval '1 hour'
)
INSERT INTO kindler_replicas AS r (owner, host, pid, version, listen, listening, notice, selector, aside)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)
ON CONFLICT (owner) DO UPDATE SET seen_at = clock_timestamp(), listening = excluded.listening,
    listen = excluded.listen, notice = excluded.notice, aside = excluded.aside
