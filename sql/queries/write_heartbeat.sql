-- Writes the heartbeat of a daemon. Also deletes daemons without a heartbeat for an
-- hour, because a daemon that crashed cannot remove its row.
-- :listen HTTP address, :listening whether its listener is connected, :notice for people,
-- :selector of the clusters that it works on, null for all, :standby whether it is on standby,
-- :refused clusters whose writes the database refuses, :findings what is wrong around it,
-- :settings and :scripts, by which daemons are compared
WITH crashed AS (
    DELETE FROM kindler_replicas
    WHERE owner <> :owner AND seen_at < clock_timestamp() - interval '1 hour'
)
INSERT INTO kindler_replicas AS r (owner, host, pid, version, listen, listening, notice, selector, aside, refused, findings,
                                   settings, scripts)
VALUES (:owner, :host, :pid, :version, :listen, :listening, :notice, :selector, :standby, :refused, :findings,
        :settings, :scripts)
ON CONFLICT (owner) DO UPDATE SET seen_at = clock_timestamp(), listening = excluded.listening,
    listen = excluded.listen, notice = excluded.notice, aside = excluded.aside,
    refused = excluded.refused, findings = excluded.findings,
    settings = excluded.settings, scripts = excluded.scripts
