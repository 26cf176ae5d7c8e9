-- Declares the spec of an earlier revision again; no row if the cluster does not
-- exist, this row has no such revision, or it has another generation. A field that the
-- revision does not contain stays as it is.
-- :revision generation of the revision, :generation the expected one, null: any,
-- :actor who declares it; null: the actor of the session
WITH me AS (SELECT set_config('kindler.actor', coalesce(:actor, current_setting('kindler.actor', true), ''), true))
UPDATE clusters c
SET {spec_changes}
FROM me, cluster_revisions d, jsonb_to_record(d.spec) AS s ({spec_record})
WHERE c.name = :name AND d.cluster_name = :name AND d.generation = :revision
  AND c.generation = coalesce(:generation, c.generation)
  AND (d.uid = c.uid
       OR d.uid IS NULL AND NOT EXISTS (
           SELECT FROM cluster_events e
           WHERE e.cluster_name = :name AND e.kind = 'removed' AND e.generation >= d.generation))
RETURNING {cluster}
