-- One page of the clusters that match every given filter, with the lease of each and
-- the number of matches on all pages.
-- :part part of the name, :labels requirements as [{"key", "op", "values"}]
SELECT {cluster}, l.owner AS lease_owner, l.term AS lease_term, l.acquired_at AS lease_since,
       count(*) OVER () AS total
FROM clusters c
LEFT JOIN cluster_leases l ON l.cluster_name = c.name AND l.expires_at > clock_timestamp()
WHERE (:part::text IS NULL OR position(:part IN c.name) > 0)
  AND (:providers::text[] IS NULL OR c.provider = ANY (:providers))
  AND (:desired::text[] IS NULL OR c.desired_state = ANY (:desired))
  AND (:actual::text[] IS NULL OR c.actual_state = ANY (:actual))
  AND (:reasons::text[] IS NULL OR c.status_reason = ANY (:reasons))
  AND (:paused::boolean IS NULL OR c.paused = :paused)
  AND (:labels::jsonb = '[]' OR kindler_matches(:labels, c.labels))
ORDER BY CASE WHEN :order = 'created_at' THEN c.created_at END,
         CASE WHEN :order = '-created_at' THEN c.created_at END DESC,
         CASE WHEN :order = 'actual_state' THEN c.actual_state END,
         CASE WHEN :order = '-actual_state' THEN c.actual_state END DESC,
         CASE WHEN :order = '-name' THEN c.name END DESC,
         c.name
LIMIT :limit OFFSET :offset
