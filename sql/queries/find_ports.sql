-- The ports of the host of a new cluster: the given ones, else the first of their range
-- that no declared cluster uses and that is not given for another purpose. The used ports
-- are collected once: an OR of two columns would read all clusters for each port.
-- $1 the fields that are given
WITH {used_ports}
SELECT {free_ports} FROM jsonb_to_record($1::jsonb) AS s ({spec_record})
