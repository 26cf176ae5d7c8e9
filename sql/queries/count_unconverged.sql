-- What keeps `kindler once` from reporting success: rows of this daemon that
-- failed, and those in which desire and record differ.
-- $1 for which clusters this daemon works
SELECT count(*) FILTER (WHERE actual_state = 'failed' OR failed_attempts > 0) AS failed,
       count(*) FILTER (WHERE NOT (desired_state = 'present' AND actual_state = 'running'
                                   OR desired_state = 'stopped' AND actual_state = 'stopped')) AS unsettled
FROM clusters WHERE NOT paused AND NOT protected AND kindler_takes($1::jsonb, placed_by, labels)
