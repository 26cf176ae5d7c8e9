-- The ports of the host that a declaration would get now: the given ones, else free ones.
-- The same function chooses them in the trigger of the table.
-- $1 the fields that are given
SELECT f.* FROM jsonb_to_record($1::jsonb) AS s ({spec_record}), kindler_free_ports({given_ports}) AS f
