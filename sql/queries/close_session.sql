-- Ends a login.
-- $1 SHA-256 of its cookie
DELETE FROM kindler_sessions WHERE hash = $1
