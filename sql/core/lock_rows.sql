, locked AS (
    SELECT f.* FROM fence f JOIN {table} {t} ON {t}.{key} = f.row_key
    ORDER BY f.row_key
    FOR NO KEY UPDATE OF {t} SKIP LOCKED
)
