-- Serializes declarations that search free ports, so that two never choose the same.
-- The limits come with it, because the session may have lost its settings in a pooler:
-- on the wait, and on the time that a dead client can hold the lock.
SELECT set_config('lock_timeout', '3s', true),
       set_config('idle_in_transaction_session_timeout', '2s', true),
       pg_advisory_xact_lock(hashtextextended('kindler declares ' || current_schema(), 0))
