-- Clusters of this daemon whose owner stopped renewing: to be looked at without
-- waiting for the next full pass.
-- $1 at most so many, $2 for which clusters this daemon works
SELECT l.cluster_name FROM cluster_leases l JOIN clusters c ON c.name = l.cluster_name
WHERE l.expires_at <= now() AND kindler_takes($2::jsonb, c.placed_by, c.labels)
ORDER BY l.expires_at LIMIT $1
