-- Clusters whose owner stopped renewing: to be looked at without waiting for
-- the next full pass.
-- $1 at most so many
SELECT cluster_name FROM cluster_leases WHERE expires_at <= now() ORDER BY expires_at LIMIT $1
