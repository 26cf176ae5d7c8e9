-- Claims due rows that this owner selects. Returns one row per existing key, with the
-- term of the new lease if this claim won it; a lost claim is a null term. Claims cannot
-- race: the primary key of the leases admits one, and a lease is taken over only after
-- it expired by the server's clock. The statement waits for a concurrent removal of a
-- row, so that a missing result means a missing row. Keys are locked in order, so that
-- two claims of several keys cannot deadlock. Why a claim was lost is looked up only
-- after a loss, because every wake-up waits for this statement. The commit is durable,
-- because a command may start after it. On a server that may lack claims of an earlier
-- one, nothing is claimed for one lifetime: by then every owner of that time has ended.
-- On one that has issued fewer terms than this owner has seen, nothing is claimed until
-- they are raised; a second later the claim is tried again.
-- $1 keys (or one key: its plan can then be kept, where an array is planned at each call), $2 owner, $3 lifetime in seconds, $4 selector of this owner, $5 terms that it has seen, $6 those of the keys whose last claim has no answer
WITH server AS MATERIALIZED (
    SELECT CASE
        WHEN coalesce(pg_sequence_last_value('{terms}'), 0) < $5::bigint THEN 1
        WHEN EXISTS (
            SELECT FROM kindler_timelines
            WHERE timeline = current_setting('kindler.timeline', true)
              AND since <= clock_timestamp() - make_interval(secs => $3)
        ) THEN 0
        ELSE kindler_timeline_wait($3) END AS wait
), due AS (
    SELECT {t}.{key} AS key, {t}.uid
    FROM {table} {t}
    WHERE {t}.{key} {keys} AND {t}.due_at <= clock_timestamp() AND ({selects})
      AND (SELECT wait FROM server) = 0
    ORDER BY {t}.{key}
    FOR KEY SHARE
), claim AS (
    INSERT INTO {leases} AS l ({lease_key}, uid, owner, term, acquired_at, renewed_at, expires_at)
    SELECT key, uid, $2, nextval('{terms}'), clock_timestamp(), clock_timestamp(),
           clock_timestamp() + make_interval(secs => $3)
    FROM due
    WHERE {durable}
    ON CONFLICT ({lease_key}) DO UPDATE
        SET uid = excluded.uid, owner = excluded.owner, term = excluded.term,
            acquired_at = excluded.acquired_at, renewed_at = excluded.renewed_at,
            expires_at = excluded.expires_at
        WHERE l.expires_at <= clock_timestamp()
           -- An earlier claim of this owner won it, and its answer was lost: nothing runs under it.
           OR l.owner = excluded.owner AND l.term < excluded.term AND l.{lease_key} = ANY($6::text[])
    RETURNING {lease_key} AS key, term
)
SELECT {row}, {columns}, {steps_of_row} AS row_steps, claim.term AS row_term,
       claim.term IS NOT NULL OR {t}.due_at <= clock_timestamp() AS row_due,
       claim.term IS NOT NULL OR ({selects}) AS row_selected,
       CASE WHEN claim.term IS NULL THEN greatest(
           (SELECT extract(epoch FROM held.expires_at - clock_timestamp())
            FROM {leases} held WHERE held.{lease_key} = {t}.{key}),
           (SELECT wait FROM server)) END::float8 AS row_held_seconds,
       CASE WHEN claim.term IS NULL AND isfinite({t}.due_at)
           THEN extract(epoch FROM {t}.due_at - clock_timestamp()) END::float8 AS row_due_seconds
FROM {table} {t} LEFT JOIN claim ON claim.key = {t}.{key}
WHERE {t}.{key} {keys}
