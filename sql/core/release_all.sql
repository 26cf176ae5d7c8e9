-- Gives back whatever an owner that is ending still holds.
-- $1 owner
DELETE FROM {leases} WHERE owner = $1
