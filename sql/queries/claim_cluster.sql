-- Claims a cluster that is due: one row if the name exists, with the term of
-- the new lease if this claim won it. Losing is a null term, never a race: the
-- primary key lets one claim in, and a lease is taken over only after it has
-- expired by this clock.
-- $1 name, $2 owner, $3 lifetime in seconds
WITH due AS (
    SELECT name FROM clusters WHERE name = $1 AND due_at <= clock_timestamp()
), claim AS (
    INSERT INTO cluster_leases AS l (cluster_name, owner, term, acquired_at, renewed_at, expires_at)
    SELECT due.name, $2, nextval('cluster_lease_terms'), clock_timestamp(), clock_timestamp(),
           clock_timestamp() + make_interval(secs => $3)
    FROM due
    ON CONFLICT (cluster_name) DO UPDATE
        SET owner = excluded.owner, term = excluded.term, acquired_at = excluded.acquired_at,
            renewed_at = excluded.renewed_at, expires_at = excluded.expires_at
        WHERE l.expires_at <= clock_timestamp()
    RETURNING term
)
SELECT {cluster}, claim.term, due.name IS NOT NULL AS due,
       extract(epoch FROM held.expires_at - clock_timestamp())::float8 AS held_seconds,
       CASE WHEN isfinite(c.due_at) THEN extract(epoch FROM c.due_at - clock_timestamp())::float8 END AS due_seconds
FROM clusters c
LEFT JOIN due ON true
LEFT JOIN claim ON true
LEFT JOIN cluster_leases held ON held.cluster_name = c.name
WHERE c.name = $1
