-- Says that a daemon is here, or still here; and takes those off the list that
-- nobody saw for an hour, because who crashes cannot do it.
-- :listening whether its listener listens, :notice what else a person should know of it,
-- :selector for which clusters it works, if not for all, :aside whether it begins nothing
WITH crashed AS (
    DELETE FROM kindler_replicas
    WHERE owner <> :owner AND seen_at < clock_timestamp() - interval '1 hour'
)
INSERT INTO kindler_replicas AS r (owner, host, pid, version, listen, listening, notice, selector, aside)
VALUES (:owner, :host, :pid, :version, :listen, :listening, :notice, :selector, :aside)
ON CONFLICT (owner) DO UPDATE SET seen_at = clock_timestamp(), listening = excluded.listening,
    listen = excluded.listen, notice = excluded.notice, aside = excluded.aside
