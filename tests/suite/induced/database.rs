//! Faults of the database and its rows.

use super::{Explained, Site, Words};
use crate::kit::{Daemon, Host, Pooler, PrivateServer, Sql};

const STATUS: &[&str] = &["status"];
/// A login that may do everything with the tables, without being their owner.
const LOGIN: &str = "CREATE ROLE app LOGIN PASSWORD 'old';
    GRANT ALL ON ALL TABLES IN SCHEMA public TO app; GRANT ALL ON ALL SEQUENCES IN SCHEMA public TO app;
    GRANT EXECUTE ON ALL FUNCTIONS IN SCHEMA public TO app";

/// A private server with that login, and a daemon that uses it.
async fn with_login() -> (PrivateServer, Site, String) {
    let server = PrivateServer::create().await;
    let database = server.database().await.migrate().await;
    let (sql, host) = (database.connect().await, Host::new());
    sql.run(LOGIN).await;
    let url = database.url_as("app").replacen("app@", "app:old@", 1);
    let daemon = Daemon::builder(&url, &host).start().await;
    let site = Site {
        daemon: Some(daemon),
        host,
        sql,
        database,
    };
    (server, site, url)
}

pub(super) async fn killed() -> Explained {
    let (server, site, url) = with_login().await;
    server.kill().await;
    let words = Words {
        cause: &["cannot be reached"],
        next: &["hint:", "next:"],
    };
    site.look_as(&url, STATUS, &words).await
}

pub(super) async fn password_changed() -> Explained {
    let (_server, site, url) = with_login().await;
    let rules = site.sql.text("SHOW hba_file").await;
    let kept = std::fs::read_to_string(&rules).unwrap();
    std::fs::write(
        &rules,
        format!("local all app scram-sha-256\nhost all app all scram-sha-256\n{kept}"),
    )
    .unwrap();
    site.sql
        .run(
            "ALTER ROLE app PASSWORD 'new'; SELECT pg_reload_conf();
              SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = 'app'",
        )
        .await;
    let words = Words {
        cause: &["password authentication failed"],
        next: &["hint:", "next:"],
    };
    site.look_as(&url, STATUS, &words).await
}

pub(super) async fn connections_used_up() -> Explained {
    let (_server, site, url) = with_login().await;
    site.sql
        .run(
            "ALTER ROLE app CONNECTION LIMIT 0;
              SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = 'app'",
        )
        .await;
    let words = Words {
        cause: &["too many connections"],
        next: &["hint:", "next:"],
    };
    site.look_as(&url, STATUS, &words).await
}

pub(super) async fn table_locked() -> Explained {
    let site = Site::new(|daemon| daemon).await;
    let other = site.database.connect().await;
    other
        .run("SET application_name = 'migration-tool'; BEGIN; LOCK TABLE clusters IN ACCESS EXCLUSIVE MODE")
        .await;
    let words = Words {
        cause: &["migration-tool", "lock"],
        next: &["hint:", "next:", "pid "],
    };
    site.look(STATUS, &words).await
}

pub(super) async fn newer_schema() -> Explained {
    let site = Site::new(|daemon| daemon).await;
    site.sql
        .run("INSERT INTO kindler_migrations (version, name) VALUES (9999, 'later')")
        .await;
    let words = Words {
        cause: &["newer than this release"],
        next: &["use the newer release", "next:"],
    };
    site.look(STATUS, &words).await
}

pub(super) async fn grant_missing() -> Explained {
    let (_server, site, url) = with_login().await;
    site.sql
        .run("REVOKE INSERT, UPDATE ON cluster_leases FROM app")
        .await;
    site.sql.declare("dev").await;
    let words = Words {
        cause: &["cluster_leases"],
        next: &["GRANT", "roles.sql"],
    };
    site.look_as(&url, STATUS, &words).await
}

pub(super) async fn triggers_off() -> Explained {
    let site = Site::new(|daemon| daemon).await;
    site.sql
        .run("ALTER TABLE clusters DISABLE TRIGGER USER")
        .await;
    let words = Words {
        cause: &["clusters_3_guard_delete", "trigger"],
        next: &["kindler migrate"],
    };
    site.look(STATUS, &words).await
}

pub(super) async fn pooler() -> Explained {
    let mut site = Site::without_daemon().await;
    let pooler = Pooler::start(&site.database, "transaction").await;
    site.daemon = Some(Daemon::builder(&pooler.url(), &site.host).start().await);
    let words = Words {
        cause: &["pooler"],
        next: &["pooler", "session", "next:"],
    };
    site.look(STATUS, &words).await
}

pub(super) async fn bad_row() -> Explained {
    let site = Site::new(|daemon| daemon).await;
    site.sql.declare("dev").await;
    site.sql
        .run("ALTER TABLE clusters DROP CONSTRAINT clusters_http_port_1_to_65535;
              ALTER TABLE clusters DISABLE TRIGGER clusters_1_check;
              UPDATE clusters SET http_port = 0; ALTER TABLE clusters ENABLE TRIGGER clusters_1_check")
        .await;
    let words = Words {
        cause: &["http_port 0 is out of range"],
        next: &["UPDATE clusters SET http_port = DEFAULT WHERE name = 'dev'"],
    };
    site.look(STATUS, &words).await
}

pub(super) async fn deletion_wave() -> Explained {
    let site = Site::new(|daemon| daemon).await;
    // Deletions that are slow, so that the wave is still there when a person looks.
    site.host.control("delete", "sleep 2");
    site.sql
        .run("INSERT INTO clusters (name, provider, pf_port, http_port, https_port, desired_state)
              SELECT 'c' || n, 'kind', 1000 + n, 20000 + n, 40000 + n, 'stopped' FROM generate_series(1, 1000) n;
              UPDATE clusters SET desired_state = 'absent', actual_state = 'stopped'")
        .await;
    let words = Words {
        cause: &["KINDLER_DELETE_CAP"],
        next: &["to stop them: UPDATE clusters"],
    };
    site.look(STATUS, &words).await
}
