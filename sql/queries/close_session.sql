-- Deletes a login session.
-- $1 SHA-256 of the cookie
DELETE FROM kindler_sessions WHERE hash = $1
