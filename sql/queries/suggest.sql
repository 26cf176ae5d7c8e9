-- A name, ports (lowest first) and a network that no declared cluster uses. The used
-- values are collected once: an OR of two columns, or &&, would read all clusters for
-- each candidate. A subnet within a candidate network counts as the whole network, so
-- that there are few networks.
WITH {used_ports}, networks AS MATERIALIZED (
    SELECT DISTINCT network(set_masklen(subnet::inet, least(masklen(subnet::inet), 16))) AS network
    FROM clusters WHERE subnet::inet && '10.0.0.0/8'
)
SELECT (SELECT 'cluster-' || min(n) FROM generate_series(1, (SELECT count(*) + 1 FROM clusters)) n
        WHERE NOT EXISTS (SELECT FROM clusters WHERE name = 'cluster-' || n)) AS name,
       {free_port_lists},
       (SELECT '10.' || min(n) || '.0.0/16' FROM generate_series(101, 199) n
        WHERE NOT EXISTS (SELECT FROM networks
                          WHERE network && format('10.%s.0.0/16', n)::inet)) AS subnet
