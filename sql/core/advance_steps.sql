-- Writes the ends of steps and the start of the next one during work, under the fence,
-- and reads the row. A step starts only while the generation is the one of the work and
-- the row is actionable; otherwise only ends are written, and the caller sees from the
-- row that it must plan again. No row: the lease is lost. The commit is durable.
-- $1 fence: key, uid, owner, term, generation; $2 the message of the row, $3 steps
WITH fence AS (
    SELECT s.row_key, s.row_uid, s.row_generation
    FROM jsonb_to_record($1::jsonb) AS s (
        row_key text, row_uid uuid, row_owner text, row_term bigint, row_generation bigint)
    JOIN {leases} l
        ON l.{lease_key} = s.row_key AND l.uid = s.row_uid AND l.owner = s.row_owner AND l.term = s.row_term
    WHERE l.expires_at > clock_timestamp() AND {durable}
    FOR SHARE OF l
), written AS (
    UPDATE {table} {t} SET {message} = coalesce($2::text, {t}.{message})
    FROM fence f
    WHERE {t}.{key} = f.row_key AND {t}.uid = f.row_uid
    RETURNING {row}, {columns}, {t}.generation = f.row_generation AND ({actionable}) AS row_goes_on
), stepped AS (
    {write_steps}
    JOIN written w ON w.row_key = x.row_key AND w.row_uid = x.row_uid AND (w.row_goes_on OR x.state NOT IN ('running', 'removing'))
    {on_step}
)
SELECT * FROM written
