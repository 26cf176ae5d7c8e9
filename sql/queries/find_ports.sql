-- The ports of a new cluster: those that are given, else the first of their
-- range that no declared cluster uses.
-- $1 pf port, $2 http port, $3 https port
SELECT coalesce($1, (SELECT min(p) FROM generate_series(19001, 19999) p
                     WHERE NOT EXISTS (SELECT FROM clusters WHERE pf_port = p))) AS pf,
       coalesce($2, (SELECT min(p) FROM generate_series(18090, 18442) p
                     WHERE NOT EXISTS (SELECT FROM clusters WHERE p IN (http_port, https_port)))) AS http,
       coalesce($3, (SELECT min(p) FROM generate_series(18443, 18999) p
                     WHERE NOT EXISTS (SELECT FROM clusters WHERE p IN (http_port, https_port)))) AS https
