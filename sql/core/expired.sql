-- Rows of this owner's to work on whose lease has expired: to be looked at without
-- waiting for the next full pass. Where nothing is due no claim would take the
-- expired lease over, so it is deleted.
-- $1 at most so many, $2 which rows this owner selects
WITH over AS (
    SELECT l.{lease_key} AS key, l.term, l.expires_at, {t}.due_at <= now() AS due
    FROM {leases} l JOIN {table} {t} ON {t}.{key} = l.{lease_key}
    WHERE l.expires_at <= now() AND ({selects})
), taken_away AS (
    DELETE FROM {leases} l USING over
    WHERE l.{lease_key} = over.key AND l.term = over.term AND NOT over.due
)
SELECT key AS row_key FROM over WHERE due ORDER BY expires_at LIMIT $1
