-- Renews a lease and reads the row and its steps under it. No row: the lease is lost,
-- and with it the right to act. An expired lease is not renewed, even if no other owner
-- took it over. A lease gives no right to a row that is placed elsewhere; only a claim
-- that was overtaken while it ran can win such a lease. The commit is durable, because
-- a successor must not count from an earlier renewal.
-- :ttl lifetime in seconds, :place the placement of this owner, if it has one
WITH renewed AS (
    UPDATE {leases}
    SET renewed_at = clock_timestamp(), expires_at = clock_timestamp() + make_interval(secs => :ttl)
    WHERE {lease_key} = :key AND uid = :uid AND owner = :owner AND term = :term AND expires_at > clock_timestamp()
      AND {durable}
    RETURNING {lease_key} AS key
)
SELECT {row}, {columns}, {steps_of_row} AS row_steps
FROM {table} {t} JOIN renewed ON renewed.key = {t}.{key}
WHERE {t}.uid = :uid AND ({place} IS NULL OR {placed})
