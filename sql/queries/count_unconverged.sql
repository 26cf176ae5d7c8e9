-- What keeps `kindler once` from reporting success: rows that failed, and rows
-- in which desire and record differ.
SELECT count(*) FILTER (WHERE actual_state = 'failed' OR failed_attempts > 0) AS failed,
       count(*) FILTER (WHERE NOT (desired_state = 'present' AND actual_state = 'running'
                                   OR desired_state = 'stopped' AND actual_state = 'stopped')) AS unsettled
FROM clusters WHERE NOT paused AND NOT protected
