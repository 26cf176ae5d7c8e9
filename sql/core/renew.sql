-- Renews a lease and reads the row and its steps under it. No row: the lease is lost, and with
-- it the right to act. An expired lease is not revived, even if no other owner
-- took it over; nor does a lease give a right to a row that is placed elsewhere, which
-- only a claim can win that was overtaken while it ran.
-- $1 key, $2 uid, $3 owner, $4 term, $5 lifetime in seconds, $6 the place of this owner, if it has one
WITH renewed AS (
    UPDATE {leases}
    SET renewed_at = clock_timestamp(), expires_at = clock_timestamp() + make_interval(secs => $5)
    WHERE {lease_key} = $1 AND uid = $2 AND owner = $3 AND term = $4 AND expires_at > clock_timestamp()
    RETURNING {lease_key} AS key
)
SELECT {row}, {columns}, {steps_of_row} AS row_steps
FROM {table} {t} JOIN renewed ON renewed.key = {t}.{key}
WHERE {t}.uid = $2 AND ($6::text IS NULL OR {placed})
