-- The full pass: rows that are due now or within the horizon, that this owner selects
-- and that are not leased, oldest first. The cost depends on the number of due rows and
-- not on the size of the table (an index on due_at; now() and not clock_timestamp(),
-- because only a stable function can bound an index scan). On a server that may lack
-- claims of an earlier one, writes that leases are issued on it from now on.
-- $1 horizon in seconds, $2 limit, $3 selector of this owner
SELECT {t}.{key} AS row_key,
       CASE WHEN {t}.due_at <= now() THEN 0 ELSE extract(epoch FROM {t}.due_at - now()) END::float8 AS in_seconds
FROM {table} {t}
WHERE {t}.due_at <= now() + make_interval(secs => $1)
  AND ({selects}) AND (SELECT kindler_open_timeline())
  AND NOT EXISTS (
      SELECT FROM {leases} l WHERE l.{lease_key} = {t}.{key} AND l.expires_at > now())
ORDER BY {t}.due_at, {t}.created_at
LIMIT $2
