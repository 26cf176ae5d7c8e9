-- Ports and a network that no declared cluster uses.
SELECT (SELECT min(p) FROM generate_series(19001, 19999) p
        WHERE NOT EXISTS (SELECT FROM clusters WHERE pf_port = p)) AS pf_port,
       (SELECT min(p) FROM generate_series(18090, 18442) p
        WHERE NOT EXISTS (SELECT FROM clusters WHERE p IN (http_port, https_port))) AS http_port,
       (SELECT min(p) FROM generate_series(18443, 18999) p
        WHERE NOT EXISTS (SELECT FROM clusters WHERE p IN (http_port, https_port))) AS https_port,
       (SELECT format('10.%s.0.0/16', min(n)) FROM generate_series(101, 199) n
        WHERE NOT EXISTS (SELECT FROM clusters
                          WHERE subnet::inet && format('10.%s.0.0/16', n)::inet)) AS subnet
