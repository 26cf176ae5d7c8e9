-- The full pass: what is due now or within the horizon, is this owner's to work
-- on and not leased, oldest first. Its cost grows with what is due, not with
-- the table (an index over due_at; now() and not clock_timestamp(), because only
-- a stable function can bound an index scan).
-- $1 horizon in seconds, $2 at most so many, $3 which rows this owner selects
SELECT {t}.{key} AS row_key,
       CASE WHEN {t}.due_at <= now() THEN 0 ELSE extract(epoch FROM {t}.due_at - now()) END::float8 AS in_seconds
FROM {table} {t}
WHERE {t}.due_at <= now() + make_interval(secs => $1)
  AND ({selects})
  AND NOT EXISTS (
      SELECT FROM {leases} l WHERE l.{lease_key} = {t}.{key} AND l.expires_at > now())
ORDER BY {t}.due_at, {t}.created_at
LIMIT $2
