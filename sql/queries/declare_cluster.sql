-- Declares a new cluster; no row if the name is taken.
-- $1 name, $2 provider, $3 subnet, $4 node port, $5 pf port, $6 http port, $7 https port,
-- $8 register with portainer, $9 route in haproxy, $10 register with argocd, $11 labels, $12 desired state,
-- $13 paused, $14 the actor, if it is not the session's
WITH me AS (SELECT set_config('kindler.actor', coalesce($14, current_setting('kindler.actor', true), ''), true))
INSERT INTO clusters AS c (name, provider, subnet, node_port, pf_port, http_port, https_port,
                           register_portainer, haproxy_route, register_argocd, labels, desired_state, paused)
SELECT $1, $2, $3::text::cidr, coalesce($4, 30080),
       $5, $6, $7,
       $8, $9, $10, $11, $12, $13
FROM me
ON CONFLICT (name) DO NOTHING
RETURNING {cluster}
