-- What keeps `kindler once` from reporting success: rows of this daemon that
-- failed, and those that are not settled, in the sense of the code (`settled`).
-- $1 for which clusters this daemon works
SELECT count(*) FILTER (WHERE actual_state = 'failed' OR failed_attempts > 0) AS failed,
       count(*) FILTER (WHERE NOT (observed_generation = generation
                                   AND (desired_state = 'present' AND actual_state = 'running'
                                        AND coalesce(observed_spec_hash = spec_hash, false)
                                        OR desired_state = 'stopped' AND actual_state = 'stopped'))) AS unsettled
FROM clusters WHERE NOT paused AND NOT protected AND kindler_takes($1::jsonb, placed_by, labels)
