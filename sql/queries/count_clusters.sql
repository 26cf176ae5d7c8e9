-- Number of clusters by desired and actual state. For metrics and status.
SELECT desired_state, actual_state, count(*) AS clusters FROM clusters GROUP BY 1, 2
