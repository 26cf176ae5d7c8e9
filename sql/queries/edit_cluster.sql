-- Changes a declared cluster; no row if it does not exist or has another generation.
-- $1 name, $2 expected generation, null: any, $3 whether the subnet changes, $4 subnet,
-- $5 node port, $6 pf port, $7 http port, $8 https port, $9 register with portainer, $10 route in haproxy,
-- $11 register with argocd, $12 labels to add, change or (null) remove, $13 paused, $14 desired state,
-- $15 the actor, if it is not the session's
WITH me AS (SELECT set_config('kindler.actor', coalesce($15, current_setting('kindler.actor', true), ''), true))
UPDATE clusters c
SET subnet = CASE WHEN $3 THEN $4::text::cidr ELSE c.subnet END,
    node_port = coalesce($5, c.node_port), pf_port = coalesce($6, c.pf_port),
    http_port = coalesce($7, c.http_port), https_port = coalesce($8, c.https_port),
    register_portainer = coalesce($9, c.register_portainer), haproxy_route = coalesce($10, c.haproxy_route),
    register_argocd = coalesce($11, c.register_argocd),
    labels = CASE WHEN $12::jsonb IS NULL THEN c.labels ELSE jsonb_strip_nulls(c.labels || $12) END,
    paused = coalesce($13, c.paused), desired_state = coalesce($14, c.desired_state)
FROM me
WHERE c.name = $1 AND c.generation = coalesce($2, c.generation)
RETURNING {cluster}
