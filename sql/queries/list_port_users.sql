-- The other clusters that declare one of these ports.
-- $1 name, $2 pf port, $3 http port, $4 https port
SELECT name, pf_port = $2 AS pf, http_port IN ($3, $4) AS http, https_port IN ($3, $4) AS https
FROM clusters
WHERE name <> $1 AND (pf_port = $2 OR http_port IN ($3, $4) OR https_port IN ($3, $4))
ORDER BY name LIMIT 20
