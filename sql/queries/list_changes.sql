-- Every cluster that changed since an earlier read, with its lease, the number of
-- clusters, the argument of the next read, and whether notifications are sent. If nothing changed, one row without a
-- name. Every visible row was written by a transaction older than the snapshot's xmax;
-- a row that seems newer was written on the server that a dump came from, and only a
-- read of everything returns it.
-- $1 the result of the earlier read; '0' for everything
SELECT {cluster}, l.owner AS lease_owner, l.term AS lease_term, l.acquired_at AS lease_since,
       s.horizon, s.total, s.notifies
FROM (SELECT pg_snapshot_xmin(pg_current_snapshot())::text AS horizon,
             (SELECT count(*) FROM clusters) AS total, kindler_notifies() AS notifies) s
LEFT JOIN clusters c ON c.changed_in >= $1::text::xid8
    AND c.changed_in < CASE WHEN $1 = '0' THEN '18446744073709551615'::xid8
                            ELSE pg_snapshot_xmax(pg_current_snapshot()) END
LEFT JOIN cluster_leases l ON l.cluster_name = c.name AND l.expires_at > clock_timestamp()
