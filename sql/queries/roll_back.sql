-- Declares the spec of an earlier revision again; no row if the cluster does not
-- exist, this row has no such revision, or it has another generation.
-- $1 name, $2 generation of the revision, $3 expected generation, null: any,
-- $4 the actor, if it is not the session's
WITH me AS (SELECT set_config('kindler.actor', coalesce($4, current_setting('kindler.actor', true), ''), true))
UPDATE clusters c
SET subnet = (r.spec ->> 'subnet')::cidr, node_port = (r.spec ->> 'node_port')::integer,
    pf_port = (r.spec ->> 'pf_port')::integer, http_port = (r.spec ->> 'http_port')::integer,
    https_port = (r.spec ->> 'https_port')::integer,
    register_portainer = (r.spec ->> 'register_portainer')::boolean,
    haproxy_route = (r.spec ->> 'haproxy_route')::boolean,
    register_argocd = (r.spec ->> 'register_argocd')::boolean
FROM me, cluster_revisions r
WHERE c.name = $1 AND r.cluster_name = $1 AND r.generation = $2 AND c.generation = coalesce($3, c.generation)
  AND (r.uid = c.uid
       OR r.uid IS NULL AND NOT EXISTS (
           SELECT FROM cluster_events e
           WHERE e.cluster_name = $1 AND e.kind = 'removed' AND e.generation >= r.generation))
RETURNING {cluster}
