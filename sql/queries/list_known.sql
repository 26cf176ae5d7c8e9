-- Which of these names were ever those of clusters. Here the history of a name
-- counts, whichever row it is about: a list must not bring back what people deleted.
-- $1 names
SELECT name FROM unnest($1::text[]) AS name
WHERE EXISTS (SELECT FROM clusters c WHERE c.name = name.name)
   OR EXISTS (SELECT FROM cluster_events e WHERE e.cluster_name = name.name)
