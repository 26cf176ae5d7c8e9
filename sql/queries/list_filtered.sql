-- One page of the clusters that match every given filter, with the lease of each and
-- the number of matches on all pages.
-- $1 part of the name, $2 providers, $3 desired states, $4 actual states, $5 reasons, $6 paused,
-- $7 label requirements as [{"key", "op", "values"}], $8 order, $9 limit, $10 offset
SELECT {cluster}, l.owner AS lease_owner, l.term AS lease_term, l.acquired_at AS lease_since,
       count(*) OVER () AS total
FROM clusters c
LEFT JOIN cluster_leases l ON l.cluster_name = c.name AND l.expires_at > clock_timestamp()
WHERE ($1::text IS NULL OR position($1 IN c.name) > 0)
  AND ($2::text[] IS NULL OR c.provider = ANY ($2))
  AND ($3::text[] IS NULL OR c.desired_state = ANY ($3))
  AND ($4::text[] IS NULL OR c.actual_state = ANY ($4))
  AND ($5::text[] IS NULL OR c.status_reason = ANY ($5))
  AND ($6::boolean IS NULL OR c.paused = $6)
  AND ($7::jsonb = '[]' OR kindler_matches($7, c.labels))
ORDER BY CASE WHEN $8 = 'created_at' THEN c.created_at END,
         CASE WHEN $8 = '-created_at' THEN c.created_at END DESC,
         CASE WHEN $8 = 'actual_state' THEN c.actual_state END,
         CASE WHEN $8 = '-actual_state' THEN c.actual_state END DESC,
         CASE WHEN $8 = '-name' THEN c.name END DESC,
         c.name
LIMIT $9 OFFSET $10
