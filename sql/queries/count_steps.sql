-- Number of clusters by step and step state.
SELECT driver, name, state, count(*) AS clusters
FROM cluster_steps
GROUP BY driver, name, state
ORDER BY driver, name, state
