-- Serializes the beginning of deletions over all replicas, so that they cannot exceed
-- the cap together. The lock is held until the end of the transaction; later
-- statements see what the previous holder committed. It is not waited for: a waiting
-- transaction of a dead host would get it next and keep it. For the same reason the
-- transaction is ended when it is idle, also where the session has lost its settings.
SELECT pg_try_advisory_xact_lock(hashtextextended('kindler deletes ' || current_schema(), 0)) AS locked,
       set_config('idle_in_transaction_session_timeout', '2s', true)
