-- Renews a lease and reads the row and its steps under it. No row: the lease is lost,
-- and with it the right to act. An expired lease is not renewed, even if no other owner
-- took it over. A lease gives no right to a row that is placed elsewhere; only a claim
-- that was overtaken while it ran can win such a lease.
-- $1 key, $2 uid, $3 owner, $4 term, $5 lifetime in seconds, $6 the placement of this owner, if it has one
WITH renewed AS (
    UPDATE {leases}
    SET renewed_at = clock_timestamp(), expires_at = clock_timestamp() + make_interval(secs => $5)
    WHERE {lease_key} = $1 AND uid = $2 AND owner = $3 AND term = $4 AND expires_at > clock_timestamp()
    RETURNING {lease_key} AS key
)
SELECT {row}, {columns}, {steps_of_row} AS row_steps
FROM {table} {t} JOIN renewed ON renewed.key = {t}.{key}
WHERE {t}.uid = $2 AND ($6::text IS NULL OR {placed})
