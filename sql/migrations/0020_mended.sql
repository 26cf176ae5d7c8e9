-- Whoever mends a row that could not be read does not wait for its next attempt: each change
-- that is not the daemon's own status makes it due. Additive and repeatable.
CREATE OR REPLACE FUNCTION clusters_mended() RETURNS trigger
LANGUAGE plpgsql SET search_path FROM CURRENT AS $$
BEGIN
    NEW.next_attempt_at := NULL;
    PERFORM kindler_notify(kindler_channel('wake'), NEW.name);
    RETURN NEW;
END $$;

DROP TRIGGER IF EXISTS clusters_2_mended ON clusters;
CREATE TRIGGER clusters_2_mended BEFORE UPDATE ON clusters FOR EACH ROW
    WHEN (OLD.status_reason = 'RowInvalid' AND NEW.last_reconciled_at IS NOT DISTINCT FROM OLD.last_reconciled_at)
    EXECUTE FUNCTION clusters_mended();
