-- How many clusters are in which state, for metrics and status.
SELECT desired_state, actual_state, count(*) AS clusters FROM clusters GROUP BY 1, 2
