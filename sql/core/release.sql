-- Releases a lease, unless another owner has taken it over.
-- $1 key, $2 uid, $3 owner, $4 term
DELETE FROM {leases} WHERE {lease_key} = $1 AND uid = $2 AND owner = $3 AND term = $4
