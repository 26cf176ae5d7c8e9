-- Every cluster that changed since an earlier read, with who works on it, how
-- many clusters there are, and what to give to the next read. Where nothing
-- changed there is one row without a name. Who wrote what a snapshot shows is
-- older than the snapshot's xmax: what seems younger was written on the server
-- that a dump came from, and is told with everything only.
-- $1 what the earlier read gave; '0' for everything
SELECT {cluster}, l.owner AS lease_owner, l.term AS lease_term, l.acquired_at AS lease_since,
       s.horizon, s.total
FROM (SELECT pg_snapshot_xmin(pg_current_snapshot())::text AS horizon,
             (SELECT count(*) FROM clusters) AS total) s
LEFT JOIN clusters c ON c.changed_in >= $1::text::xid8
    AND c.changed_in < CASE WHEN $1 = '0' THEN '18446744073709551615'::xid8
                            ELSE pg_snapshot_xmax(pg_current_snapshot()) END
LEFT JOIN cluster_leases l ON l.cluster_name = c.name AND l.expires_at > clock_timestamp()
