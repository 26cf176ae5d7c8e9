-- What stands beside the clusters: who may act now, who is there, what
-- happened, and what was declared when.

-- One row while somebody works on a cluster. Small, because heartbeats live
-- here and not in the wide table. Expiry is judged by this database's clock.
-- Only its keys are indexed: it is as small as the work in hand, and so
-- a renewal touches no index at all (a HOT update).
CREATE TABLE IF NOT EXISTS cluster_leases (
    cluster_name text        PRIMARY KEY REFERENCES clusters (name) ON DELETE CASCADE,
    owner        text        NOT NULL,
    term         bigint      NOT NULL UNIQUE,
    acquired_at  timestamptz NOT NULL,
    renewed_at   timestamptz NOT NULL,
    expires_at   timestamptz NOT NULL
);
-- Terms come from one sequence, so that a later claim of any cluster, even of
-- one that was removed and declared again, has the larger number.
CREATE SEQUENCE IF NOT EXISTS cluster_lease_terms;

-- One row per running daemon, for `kindler status`.
CREATE TABLE IF NOT EXISTS kindler_replicas (
    owner      text        PRIMARY KEY,
    host       text        NOT NULL,
    pid        integer     NOT NULL,
    version    text        NOT NULL,
    listen     text,
    listening  boolean     NOT NULL DEFAULT false,
    started_at timestamptz NOT NULL DEFAULT now(),
    seen_at    timestamptz NOT NULL DEFAULT now()
);

-- Append-only: every transition, attempt and change, and who made it. Written
-- by trigger in the transaction of the change, so none can be forgotten.
CREATE TABLE IF NOT EXISTS cluster_events (
    id           bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    cluster_name text        NOT NULL,
    at           timestamptz NOT NULL DEFAULT clock_timestamp(),
    kind         text        NOT NULL CHECK (kind IN
        ('declared', 'changed', 'retry', 'paused', 'resumed', 'protected', 'unprotected',
         'transition', 'attempt', 'health', 'removed')),
    actor        text        NOT NULL,
    generation   bigint      NOT NULL,
    term         bigint,
    from_state   text,
    to_state     text,
    attempt      integer,
    reason       text,
    message      text,
    error        text,
    change       jsonb
);
CREATE INDEX IF NOT EXISTS cluster_events_of_cluster ON cluster_events (cluster_name, id);
-- For a later sweep by age.
CREATE INDEX IF NOT EXISTS cluster_events_at ON cluster_events (at);

-- Each spec as it was declared, for history, diff and rollback. They outlive
-- their cluster; a cluster declared again under the same name counts on.
CREATE TABLE IF NOT EXISTS cluster_revisions (
    cluster_name  text        NOT NULL,
    generation    bigint      NOT NULL,
    at            timestamptz NOT NULL DEFAULT clock_timestamp(),
    actor         text        NOT NULL,
    desired_state text        NOT NULL,
    spec          jsonb       NOT NULL,
    PRIMARY KEY (cluster_name, generation)
);
