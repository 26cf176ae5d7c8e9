-- Rows that this owner selects and whose lease has expired, so that they are reconciled
-- before the next full pass. If a row is not due, no claim would take its expired lease
-- over, so the lease is deleted.
-- $1 limit, $2 selector of this owner
WITH over AS (
    SELECT l.{lease_key} AS key, l.uid, l.owner, l.term, l.expires_at, {t}.due_at <= now() AS due
    FROM {leases} l JOIN {table} {t} ON {t}.{key} = l.{lease_key}
    WHERE l.expires_at <= now() AND ({selects})
), deleted AS (
    DELETE FROM {leases} l USING over
    WHERE l.{lease_key} = over.key AND l.uid = over.uid AND l.owner = over.owner AND l.term = over.term
      -- A renewal may have been committed meanwhile.
      AND l.expires_at = over.expires_at AND NOT over.due
)
SELECT key AS row_key FROM over WHERE due ORDER BY expires_at LIMIT $1
