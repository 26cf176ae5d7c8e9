-- The leases, with their owners and the state of the clusters.
SELECT l.cluster_name, l.owner, l.term, l.acquired_at, c.actual_state,
       CASE WHEN c.status_message ~ '\S' THEN c.status_message ELSE 'no reason is recorded' END AS message,
       l.expires_at > clock_timestamp() AS live
FROM cluster_leases l JOIN clusters c ON c.name = l.cluster_name
ORDER BY l.acquired_at
