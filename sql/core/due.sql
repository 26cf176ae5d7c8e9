-- The full pass: rows that are due now or within the horizon, that this owner selects
-- and that are not leased, oldest first in each class, the classes in turn: thousands of
-- due rows of one class delay the others only by their share. Of very many, the oldest are
-- compared; the others follow when these are done. The cost depends on the number of due
-- rows and not on the size of the table (an index on due_at; now() and not
-- clock_timestamp(), because only a stable function can bound an index scan). On a server
-- that may lack claims of an earlier one, writes that leases are issued on it from now on.
-- $1 horizon in seconds, $2 limit, $3 selector of this owner
SELECT found.row_key,
       CASE WHEN found.due_at <= now() THEN 0 ELSE extract(epoch FROM found.due_at - now()) END::float8 AS in_seconds
FROM (
    SELECT oldest.*, row_number() OVER (PARTITION BY class ORDER BY due_at, created_at) AS turn
    FROM (
        SELECT {t}.{key} AS row_key, {t}.due_at, {t}.created_at, {class} AS class
        FROM {table} {t}
        WHERE {t}.due_at <= now() + make_interval(secs => $1) AND ({selects})
          AND NOT EXISTS (
              SELECT FROM {leases} l WHERE l.{lease_key} = {t}.{key} AND l.expires_at > now())
        ORDER BY {t}.due_at, {t}.created_at
        LIMIT $2::bigint * (1 + 2 * {last_class})
    ) AS oldest
) AS found
WHERE (SELECT kindler_open_timeline())
ORDER BY found.turn, found.due_at, found.created_at
LIMIT $2
