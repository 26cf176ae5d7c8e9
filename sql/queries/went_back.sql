-- The names of the rows that were paused because the database has gone back.
-- $1 the largest term that this daemon has seen
SELECT * FROM kindler_went_back($1) AS paused ORDER BY paused
