-- Whether another session has locked a row, so that a write would wait. Waits for no row.
-- Its own lock changes nothing, so its commit need not be durable.
-- $1 key
WITH free AS MATERIALIZED (
    SELECT {t}.{key} FROM {table} {t}
    WHERE {t}.{key} = $1 AND set_config('synchronous_commit', 'off', true) IS NOT NULL
    FOR NO KEY UPDATE SKIP LOCKED
)
SELECT NOT EXISTS (SELECT FROM free) AS row_locked
FROM {table} {t} WHERE {t}.{key} = $1
