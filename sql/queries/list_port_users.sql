-- The other clusters that declare one of these ports of the host, and in which pools.
-- $1 name, $2 the spec with the ports
SELECT * FROM (
    SELECT c.name, {pools_in_use}
    FROM clusters c, jsonb_to_record($2::jsonb) AS s ({spec_record})
    WHERE c.name <> $1) AS users
WHERE {any_pool}
ORDER BY name LIMIT 20
