-- Claims a cluster that is due and this daemon's to work on: one row if the name
-- exists, with the term of the new lease if this claim won it. Losing is a null
-- term, never a race: the primary key lets one claim in, and a lease is taken over
-- only after it has expired by this clock. A row that is being removed is waited
-- for, so that its absence is no row either. Why it was lost is looked up only
-- then, because every wake-up waits for this statement.
-- $1 name, $2 owner, $3 lifetime in seconds, $4 for which clusters this daemon works
WITH claim AS (
    INSERT INTO cluster_leases AS l (cluster_name, owner, term, acquired_at, renewed_at, expires_at)
    SELECT name, $2, nextval('cluster_lease_terms'), clock_timestamp(), clock_timestamp(),
           clock_timestamp() + make_interval(secs => $3)
    FROM clusters WHERE name = $1 AND due_at <= clock_timestamp() AND kindler_takes($4::jsonb, placed_by, labels)
    FOR KEY SHARE
    ON CONFLICT (cluster_name) DO UPDATE
        SET owner = excluded.owner, term = excluded.term, acquired_at = excluded.acquired_at,
            renewed_at = excluded.renewed_at, expires_at = excluded.expires_at
        WHERE l.expires_at <= clock_timestamp()
    RETURNING term
)
SELECT {cluster}, claim.term, claim.term IS NOT NULL OR c.due_at <= clock_timestamp() AS due,
       claim.term IS NOT NULL OR kindler_takes($4::jsonb, c.placed_by, c.labels) AS mine,
       CASE WHEN claim.term IS NULL THEN
           (SELECT extract(epoch FROM held.expires_at - clock_timestamp())
            FROM cluster_leases held WHERE held.cluster_name = c.name) END::float8 AS held_seconds,
       CASE WHEN claim.term IS NULL AND isfinite(c.due_at)
           THEN extract(epoch FROM c.due_at - clock_timestamp()) END::float8 AS due_seconds
FROM clusters c LEFT JOIN claim ON true
WHERE c.name = $1
