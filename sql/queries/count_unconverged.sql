-- What keeps `kindler once` from reporting success: this daemon's rows that failed, and
-- those that are not settled, by the same rule as `settled` in the code.
-- $1 selector of this daemon
SELECT count(*) FILTER (WHERE actual_state = 'failed' OR failed_attempts > 0) AS failed,
       count(*) FILTER (WHERE NOT (observed_generation = generation
                                   AND (desired_state = 'present' AND actual_state = 'running'
                                        AND coalesce(observed_spec_hash = spec_hash, false)
                                        OR desired_state = 'stopped' AND actual_state = 'stopped'))) AS unsettled
FROM clusters WHERE NOT paused AND NOT protected AND kindler_takes($1::jsonb, placed_by, labels)
