-- The ports of a new cluster: the given ones, else the first of their range that no
-- declared cluster uses and that is not given for another purpose. The used ports are
-- collected once, and only if needed: an OR of two columns would read all clusters for
-- each port.
-- $1 pf port, $2 http port, $3 https port
WITH web AS MATERIALIZED (
    SELECT http_port AS port FROM clusters WHERE http_port BETWEEN 18090 AND 18999
    UNION
    SELECT https_port FROM clusters WHERE https_port BETWEEN 18090 AND 18999
)
SELECT coalesce($1, (SELECT min(p) FROM generate_series(19001, 19999) p
                     WHERE p IS DISTINCT FROM $2 AND p IS DISTINCT FROM $3
                       AND NOT EXISTS (SELECT FROM clusters WHERE pf_port = p))) AS pf,
       coalesce($2, (SELECT min(p) FROM generate_series(18090, 18442) p
                     WHERE p IS DISTINCT FROM $1 AND p IS DISTINCT FROM $3
                       AND NOT EXISTS (SELECT FROM web WHERE port = p))) AS http,
       coalesce($3, (SELECT min(p) FROM generate_series(18443, 18999) p
                     WHERE p IS DISTINCT FROM $1 AND p IS DISTINCT FROM $2
                       AND NOT EXISTS (SELECT FROM web WHERE port = p))) AS https
