-- How many clusters have each step in each state.
SELECT driver, name, state, count(*) AS clusters
FROM cluster_steps
GROUP BY driver, name, state
ORDER BY driver, name, state
