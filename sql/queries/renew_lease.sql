-- Renews a held lease and reads the row under it. No row: the lease is lost,
-- and with it the right to act. An expired lease is not revived, even if
-- nobody took it over; nor does a lease give a right to a cluster that is placed
-- elsewhere, which only a claim can win that was overtaken while it ran.
-- $1 name, $2 term, $3 lifetime in seconds, $4 the place of this daemon, if it has one
WITH renewed AS (
    UPDATE cluster_leases
    SET renewed_at = clock_timestamp(), expires_at = clock_timestamp() + make_interval(secs => $3)
    WHERE cluster_name = $1 AND term = $2 AND expires_at > clock_timestamp()
    RETURNING cluster_name
)
SELECT {cluster} FROM clusters c JOIN renewed ON renewed.cluster_name = c.name
WHERE $4::text IS NULL OR coalesce(c.placed_by, $4) = $4
