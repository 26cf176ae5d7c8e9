-- The ports of the host of a new cluster: the given ones, else the first of their range
-- that no declared cluster uses and that is not given for another purpose. The used ports
-- are collected once: an OR of two columns would read all clusters for each port.
-- $1 the fields that are given
WITH used AS MATERIALIZED (
    SELECT DISTINCT ports.pool, ports.port
    FROM clusters c, LATERAL (VALUES {ports_by_pool}) AS ports (pool, port)
)
SELECT {free_ports} FROM jsonb_to_record($1::jsonb) AS s ({spec_record})
