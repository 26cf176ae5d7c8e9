-- Releases all leases of an owner that ends.
-- $1 owner
DELETE FROM {leases} WHERE owner = $1
