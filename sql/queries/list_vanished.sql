-- Names whose last row has gone although it was not declared absent, as by a DELETE while the
-- triggers were off: their clusters may exist. With the provider that was declared last, if
-- that is known. Of all names, the index of events is read once for each, not the events.
-- $1 names besides those with events in the last minute; null: all that ever had a row
WITH RECURSIVE used (name) AS (
    SELECT min(cluster_name) FROM cluster_events WHERE $1::text[] IS NULL
    UNION ALL
    SELECT (SELECT min(cluster_name) FROM cluster_events WHERE cluster_name > used.name)
    FROM used WHERE used.name IS NOT NULL
), candidates AS (
    SELECT name FROM used WHERE name IS NOT NULL
    UNION
    SELECT unnest($1::text[])
    UNION
    SELECT cluster_name FROM cluster_events WHERE at > now() - interval '1 minute'
)
SELECT name, declared.provider
FROM candidates
LEFT JOIN LATERAL (
    SELECT r.spec->>'provider' AS provider, r.desired_state
    FROM cluster_revisions r WHERE r.cluster_name = name ORDER BY r.generation DESC LIMIT 1
) declared ON true
LEFT JOIN LATERAL (
    SELECT e.kind FROM cluster_events e WHERE e.cluster_name = name ORDER BY e.id DESC LIMIT 1
) last ON true
WHERE NOT EXISTS (SELECT FROM clusters c WHERE c.name = candidates.name)
  AND (declared.desired_state = 'absent' AND last.kind = 'removed') IS NOT TRUE
