INSERT INTO {steps} AS p (uid, driver, name, position, total, version, required, state, attempt, reason, message,
                              input_hash, term, started_at, finished_at, next_try_at)
    SELECT w.row_uid, x.driver, x.name, x.position, x.total, x.version, x.required, x.state, x.attempt, x.reason, x.message,
           x.input_hash, x.term,
           CASE WHEN x.state IN ('running', 'removing') THEN clock_timestamp() END,
           CASE WHEN x.state NOT IN ('running', 'removing', 'pending') THEN clock_timestamp() END,
           clock_timestamp() + make_interval(secs => x.next_try_seconds)
    FROM jsonb_to_recordset($3::jsonb) AS x (
        row_key text, row_uid uuid, driver text, name text, position integer, total integer, version integer, required boolean, state text,
        attempt integer, reason text, message text, input_hash text, term bigint, next_try_seconds float8)
