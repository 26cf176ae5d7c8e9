-- Comments of tables and columns in plain words. Additive and repeatable.
COMMENT ON TABLE clusters IS 'Declared clusters. People write the spec and desired_state, the reconciler writes the rest.';
COMMENT ON COLUMN clusters.uid IS 'The identity of this row. A later row of the same name has another.';
COMMENT ON COLUMN clusters.generation IS 'Rises when the spec or desired_state changes; a trigger counts it.';
COMMENT ON COLUMN clusters.observed_generation IS 'The generation whose desired state was last reached.';
COMMENT ON COLUMN clusters.due_at IS 'When this row is reconciled next; generated.';
COMMENT ON COLUMN clusters.retry_requested_at IS 'Set it to now() to retry at once; the count of failures starts over.';
COMMENT ON COLUMN clusters.absent_since IS 'Since when desired_state is absent. Deferred deletions continue in this order.';
COMMENT ON COLUMN clusters.changed_in IS 'The transaction that last wrote this row; streams find changes by it.';
COMMENT ON COLUMN clusters.placed_by IS 'The placement: the selector of the daemons that started this cluster and keep it, whatever its labels are.';
COMMENT ON TABLE cluster_steps IS 'The recorded steps of each cluster: written under the fence, before a step acts and after it ended.';
COMMENT ON TABLE kindler_watchers IS 'Servers with open streams. While there is one, each statement that writes to clusters notifies the channel of the page.';
COMMENT ON TABLE kindler_tokens IS 'Tokens of the API, created by `kindler token create`. Only the SHA-256 of each is stored.';
COMMENT ON TABLE kindler_sessions IS 'Logins of the page. Only the SHA-256 of each cookie is stored.';
COMMENT ON COLUMN kindler_replicas.aside IS 'Whether this daemon is on standby: it starts no new work, because the schema is newer than its release.';
