-- A name, ports, the lowest first, and a network that no declared cluster uses.
SELECT (SELECT 'cluster-' || min(n) FROM generate_series(1, (SELECT count(*) + 1 FROM clusters)) n
        WHERE NOT EXISTS (SELECT FROM clusters WHERE name = 'cluster-' || n)) AS name,
       ARRAY(SELECT p FROM generate_series(19001, 19999) p
             WHERE NOT EXISTS (SELECT FROM clusters WHERE pf_port = p) ORDER BY p LIMIT 50) AS pf_ports,
       ARRAY(SELECT p FROM generate_series(18090, 18442) p
             WHERE NOT EXISTS (SELECT FROM clusters WHERE p IN (http_port, https_port)) ORDER BY p LIMIT 50) AS http_ports,
       ARRAY(SELECT p FROM generate_series(18443, 18999) p
             WHERE NOT EXISTS (SELECT FROM clusters WHERE p IN (http_port, https_port)) ORDER BY p LIMIT 50) AS https_ports,
       (SELECT format('10.%s.0.0/16', min(n)) FROM generate_series(101, 199) n
        WHERE NOT EXISTS (SELECT FROM clusters
                          WHERE subnet::inet && format('10.%s.0.0/16', n)::inet)) AS subnet
