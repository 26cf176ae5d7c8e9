-- The revision that a task is about.
-- $1 task
SELECT cluster_name, generation, desired_state, at FROM cluster_revisions WHERE task_id = $1::text::uuid
