-- Clusters of this daemon whose owner stopped renewing: to be looked at without
-- waiting for the next full pass. Where nothing is due nobody would claim and
-- so take over what is left of the lease: it is taken away.
-- $1 at most so many, $2 for which clusters this daemon works
WITH over AS (
    SELECT l.cluster_name, l.term, l.expires_at, c.due_at <= now() AS due
    FROM cluster_leases l JOIN clusters c ON c.name = l.cluster_name
    WHERE l.expires_at <= now() AND kindler_takes($2::jsonb, c.placed_by, c.labels)
), taken_away AS (
    DELETE FROM cluster_leases l USING over
    WHERE l.cluster_name = over.cluster_name AND l.term = over.term AND NOT over.due
)
SELECT cluster_name FROM over WHERE due ORDER BY expires_at LIMIT $1
