-- Writes statuses, each under its fence: only while this owner holds the lease under
-- this term, and the row has the same UID, the generation that the decision used, the
-- state that was read, and no other placement. If one of them differs, no row is
-- returned. The share lock on the lease makes a takeover wait for this write, or this
-- write see the takeover. A status counts only with the lease that it was sent with, also
-- next to others of the same key; a step change only with its status. The commit is
-- durable.
-- $1 statuses, $2 the placement of this owner, if it has one, $3 steps
WITH status AS (
    SELECT * FROM {statuses} AS s (
        row_key text, row_uid uuid, row_owner text, row_term bigint, row_generation bigint, row_was text,
        {status_columns})
), fence AS (
    SELECT s.row_key, s.row_owner, s.row_term FROM status s JOIN {leases} l
        ON l.{lease_key} = s.row_key AND l.uid = s.row_uid AND l.owner = s.row_owner AND l.term = s.row_term
    WHERE l.expires_at > clock_timestamp() AND {durable}
    FOR SHARE OF l{skip_locked}
){lock_rows}, written AS (
    UPDATE {table} {t} SET {set_status}
    FROM status s JOIN {fence} f USING (row_key, row_owner, row_term)
    WHERE {t}.{key} = s.row_key AND {t}.uid = s.row_uid AND {t}.generation = s.row_generation
      AND {t}.{state} = s.row_was AND ($2::text IS NULL OR {placed})
    RETURNING {row}, {columns}, row_term
), stepped AS (
    {write_steps}
    JOIN written w ON w.row_key = x.row_key AND w.row_uid = x.row_uid AND w.row_term = x.term
    {on_step}
)
SELECT * FROM written
