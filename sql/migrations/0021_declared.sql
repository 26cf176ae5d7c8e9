-- A new row says that no daemon has observed it yet: its reason is never empty. Additive and
-- repeatable.
ALTER TABLE clusters ALTER COLUMN status_reason SET DEFAULT 'Declared';
ALTER TABLE clusters ALTER COLUMN status_message SET DEFAULT 'declared; not observed yet';
