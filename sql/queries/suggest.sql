-- A name, ports (lowest first) and a network that no declared cluster uses. The used
-- values are collected once: an OR of two columns, or &&, would read all clusters for
-- each candidate. A subnet within a candidate network counts as the whole network, so
-- that there are few networks.
WITH web AS MATERIALIZED (
    SELECT http_port AS port FROM clusters WHERE http_port BETWEEN 18090 AND 18999
    UNION
    SELECT https_port FROM clusters WHERE https_port BETWEEN 18090 AND 18999
), networks AS MATERIALIZED (
    SELECT DISTINCT network(set_masklen(subnet::inet, least(masklen(subnet::inet), 16))) AS network
    FROM clusters WHERE subnet::inet && '10.0.0.0/8'
)
SELECT (SELECT 'cluster-' || min(n) FROM generate_series(1, (SELECT count(*) + 1 FROM clusters)) n
        WHERE NOT EXISTS (SELECT FROM clusters WHERE name = 'cluster-' || n)) AS name,
       ARRAY(SELECT p FROM generate_series(19001, 19999) p
             WHERE NOT EXISTS (SELECT FROM clusters WHERE pf_port = p) ORDER BY p LIMIT 50) AS pf_ports,
       ARRAY(SELECT p FROM generate_series(18090, 18442) p
             WHERE NOT EXISTS (SELECT FROM web WHERE port = p) ORDER BY p LIMIT 50) AS http_ports,
       ARRAY(SELECT p FROM generate_series(18443, 18999) p
             WHERE NOT EXISTS (SELECT FROM web WHERE port = p) ORDER BY p LIMIT 50) AS https_ports,
       (SELECT '10.' || min(n) || '.0.0/16' FROM generate_series(101, 199) n
        WHERE NOT EXISTS (SELECT FROM networks
                          WHERE network && format('10.%s.0.0/16', n)::inet)) AS subnet
