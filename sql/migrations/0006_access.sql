-- Who may call the API: tokens, and the page's logins with them. Additive and
-- repeatable.

-- A token is 256 random bits, so its plain SHA-256 is all that has to be kept: a
-- slow hash protects what people think up, and nobody can try 2^256 values
-- against a fast one. It is needed at every request, too. A revoked token stays,
-- because the books name it.
CREATE TABLE IF NOT EXISTS kindler_tokens (
    id           bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    name         text        NOT NULL CHECK (name ~ '^[a-z0-9]([a-z0-9._-]{0,61}[a-z0-9])?$'),
    hash         bytea       NOT NULL UNIQUE CHECK (octet_length(hash) = 32),
    scope        text        NOT NULL CHECK (scope IN ('read', 'write', 'admin')),
    created_at   timestamptz NOT NULL DEFAULT now(),
    created_by   text        NOT NULL DEFAULT kindler_actor(),
    expires_at   timestamptz,
    last_used_at timestamptz,
    revoked_at   timestamptz,
    revoked_by   text
);
COMMENT ON TABLE kindler_tokens IS 'Who may call the API; of each token only its SHA-256. Made by `kindler token create`.';
-- A name is free again once its token was revoked.
CREATE UNIQUE INDEX IF NOT EXISTS kindler_tokens_name ON kindler_tokens (name) WHERE revoked_at IS NULL;
-- Found by the beginning of the hash; the whole is compared in constant time.
CREATE INDEX IF NOT EXISTS kindler_tokens_selector ON kindler_tokens (substring(hash FROM 1 FOR 8));

-- A login of the page with a token: another secret, in a cookie, that ends with
-- the token.
CREATE TABLE IF NOT EXISTS kindler_sessions (
    hash       bytea       PRIMARY KEY CHECK (octet_length(hash) = 32),
    token_id   bigint      NOT NULL REFERENCES kindler_tokens (id) ON DELETE CASCADE,
    created_at timestamptz NOT NULL DEFAULT now(),
    expires_at timestamptz NOT NULL
);
COMMENT ON TABLE kindler_sessions IS 'Logins of the page; of each cookie only its SHA-256.';
CREATE INDEX IF NOT EXISTS kindler_sessions_of_token ON kindler_sessions (token_id, created_at);
CREATE INDEX IF NOT EXISTS kindler_sessions_selector ON kindler_sessions (substring(hash FROM 1 FOR 8));

-- Where sql/roles.sql was run before, its roles get what it gives them since.
DO $$
BEGIN
    IF EXISTS (SELECT FROM pg_roles WHERE rolname = 'kindler_daemon')
       AND has_table_privilege('kindler_daemon', 'cluster_leases', 'INSERT') THEN
        GRANT SELECT, UPDATE (last_used_at) ON kindler_tokens TO kindler_daemon, kindler_api;
        GRANT SELECT ON kindler_sessions TO kindler_daemon;
        GRANT SELECT, INSERT, DELETE ON kindler_sessions TO kindler_api;
    END IF;
END $$;
