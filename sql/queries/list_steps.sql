-- The recorded steps of a row, in order.
-- $1 the row's UID
SELECT driver, name, position, total, version, required, state, attempt, reason, message, input_hash,
       started_at, finished_at, next_try_at
FROM cluster_steps
WHERE uid = $1
ORDER BY driver, position, name
