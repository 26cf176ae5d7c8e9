-- Ports of the host that several clusters of one placement declare, each with one of the
-- others: all of them cannot run on one host. The youngest cluster first: the older ones may run.
-- $1 names; null: every cluster, $2 limit
WITH ports AS (
    SELECT c.name, c.created_at, c.placed_by, p.pool, p.field, p.port
    FROM clusters c, LATERAL (VALUES {host_ports}) AS p (pool, field, port)
), shared AS (
    SELECT pool, port, placed_by, min(name) AS first, max(name) AS last
    FROM ports GROUP BY pool, port, placed_by HAVING min(name) <> max(name)
)
SELECT p.name, p.field, p.port, CASE WHEN s.first = p.name THEN s.last ELSE s.first END AS other,
       (SELECT count(*) FROM shared) AS total
FROM ports p JOIN shared s ON s.pool = p.pool AND s.port = p.port AND s.placed_by IS NOT DISTINCT FROM p.placed_by
WHERE $1::text[] IS NULL OR p.name = ANY ($1)
ORDER BY p.created_at DESC, p.name, p.field LIMIT $2
