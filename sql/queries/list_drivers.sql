-- The drivers that clusters were made with, with the number of clusters, most first.
SELECT driver, count(*) AS clusters FROM clusters
WHERE driver IS NOT NULL GROUP BY driver ORDER BY count(*) DESC, driver
