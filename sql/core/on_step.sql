ON CONFLICT (uid, driver, name) DO UPDATE
        SET position = excluded.position, total = excluded.total, version = excluded.version, required = excluded.required,
            state = excluded.state, attempt = excluded.attempt, reason = excluded.reason,
            message = excluded.message, input_hash = excluded.input_hash, term = excluded.term,
            started_at = coalesce(excluded.started_at, p.started_at),
            finished_at = excluded.finished_at, next_try_at = excluded.next_try_at
        -- What a newer release wrote of its step stays.
        WHERE p.version <= excluded.version
