-- Those of these names that any cluster ever had. Here the history of a name counts,
-- whichever row it belongs to: an imported list must not bring back deleted clusters.
-- $1 names
SELECT name FROM unnest($1::text[]) AS name
WHERE EXISTS (SELECT FROM clusters c WHERE c.name = name.name)
   OR EXISTS (SELECT FROM cluster_events e WHERE e.cluster_name = name.name)
