-- Writes the heartbeat of a daemon. Also deletes daemons without a heartbeat for an
-- hour, because a daemon that crashed cannot remove its row.
-- $1 owner, $2 host, $3 pid, $4 version, $5 HTTP address, $6 whether its listener is connected,
-- $7 notice for people, $8 selector of the clusters that it works on, null for all,
-- $9 whether it is on standby
WITH crashed AS (
    DELETE FROM kindler_replicas
    WHERE owner <> $1 AND seen_at < clock_timestamp() - interval '1 hour'
)
INSERT INTO kindler_replicas AS r (owner, host, pid, version, listen, listening, notice, selector, aside)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)
ON CONFLICT (owner) DO UPDATE SET seen_at = clock_timestamp(), listening = excluded.listening,
    listen = excluded.listen, notice = excluded.notice, aside = excluded.aside
