-- Changes what is wanted of a cluster; no row if there is none.
-- $1 name, $2 desired state
UPDATE clusters c SET desired_state = $2 WHERE c.name = $1 RETURNING {cluster}
