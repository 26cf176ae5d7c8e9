-- Releases a lease, if its term is unchanged.
-- $1 key, $2 owner, $3 term
DELETE FROM {leases} WHERE {lease_key} = $1 AND owner = $2 AND term = $3
