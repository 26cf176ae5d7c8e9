//! What Kindler stands on is damaged while it runs: triggers, privileges, row-level security,
//! the schema's name, the clock. Within 15 s metric, `/readyz`, heartbeat and `kindler status`
//! name cause and next step, and all of them end with the fault.

use std::time::Duration;

use rustix::process::Signal;

use crate::kit::{
    Daemon, Database, Host, Sql, TIMEOUT, eventually, kindler, kindler_output, migrated,
};

const ROLES: &str = include_str!("../../../sql/roles.sql");

/// Within which a fault is shown.
const SHOWN: Duration = Duration::from_secs(15);

/// Waits until everything shows this finding, with words of its cause and next step.
async fn shown(daemon: &Daemon, database: &Database, host: &Host, code: &str, words: &[&str]) {
    let series = format!("kindler_finding{{code=\"{code}\",severity=\"failure\"}}");
    eventually(SHOWN, code, || async {
        let (status, body) = daemon.get("/readyz").await?;
        let listed =
            status == 200 && body.starts_with("ready, but degraded") && body.contains(code);
        let listed = listed && words.iter().all(|word| body.contains(word));
        (listed && daemon.metric(&series).await == Some(1.0)).then_some(())
    })
    .await;
    let stored = format!(
        "SELECT count(*) FROM kindler_replicas WHERE findings @> '[{{\"code\": \"{code}\"}}]'"
    );
    let sql = database.connect().await;
    sql.wait_number(&stored, 1).await;
    let (status, exit) = kindler_output(&database.url(), host, &["status"]);
    assert_eq!(exit, Some(1), "{status}");
    for word in words.iter().chain(&[code]) {
        assert!(status.contains(word), "{word} is missing in {status}");
    }
}

/// Waits until no failure is left.
async fn ended(daemon: &Daemon, database: &Database, host: &Host, code: &str) {
    eventually(SHOWN, "the end of the finding", || async {
        let (status, body) = daemon.get("/readyz").await?;
        (status == 200 && !body.contains(code)).then_some(())
    })
    .await;
    let sql = database.connect().await;
    let stored = format!(
        "SELECT count(*) FROM kindler_replicas WHERE findings @> '[{{\"code\": \"{code}\"}}]'"
    );
    sql.wait_number(&stored, 0).await;
    let (status, exit) = kindler_output(&database.url(), host, &["status"]);
    assert_eq!(exit, Some(0), "{status}");
}

#[tokio::test]
async fn a_disabled_trigger_is_shown_and_migrate_restores_it() {
    let (database, host) = (migrated().await, Host::new());
    let daemon = Daemon::start(&database, &host).await;
    let sql = database.connect().await;
    sql.run("ALTER TABLE clusters DISABLE TRIGGER clusters_3_guard_delete")
        .await;
    let words = [
        "trigger clusters_3_guard_delete on clusters is disabled",
        "a DELETE can remove the row of a cluster that exists",
        "kindler migrate",
    ];
    shown(&daemon, &database, &host, "SchemaDamaged", &words).await;
    let (output, exit) = kindler_output(&database.url(), &host, &["migrate"]);
    assert_eq!(exit, Some(0), "{output}");
    let restored = "restored: trigger clusters_3_guard_delete on clusters (was disabled)";
    assert!(output.contains(restored), "{output}");
    ended(&daemon, &database, &host, "SchemaDamaged").await;
}

#[tokio::test]
async fn an_api_server_shows_a_replaced_function() {
    let (database, host) = (migrated().await, Host::new());
    let daemon = Daemon::builder(&database.url(), &host)
        .set("KINDLER_API_ONLY", "true")
        .start()
        .await;
    let sql = database.connect().await;
    sql.run(
        "CREATE OR REPLACE FUNCTION clusters_guard_delete() RETURNS trigger
         LANGUAGE plpgsql AS 'BEGIN RETURN OLD; END'",
    )
    .await;
    let cause = "function clusters_guard_delete() is changed";
    eventually(SHOWN, cause, || async {
        let (status, body) = daemon.get("/readyz").await?;
        (status == 200 && body.contains(cause) && body.contains("kindler migrate")).then_some(())
    })
    .await;
}

/// "ready" would be a green light: nothing is created, checked or repaired.
#[tokio::test]
async fn an_api_server_without_a_daemon_is_degraded() {
    let (database, host) = (migrated().await, Host::new());
    let page = Daemon::builder(&database.url(), &host)
        .set("KINDLER_API_ONLY", "true")
        .start()
        .await;
    let degraded = async |expected: bool| {
        // A heartbeat counts for 15 s.
        eventually(
            SHOWN + Duration::from_secs(1),
            "whether a daemon runs",
            || async {
                let (status, body) = page.get("/readyz").await?;
                let said = body.contains("degraded")
                    && body.contains("no daemon is running")
                    && body.contains("next: start `kindler serve`");
                (status == 200 && said == expected).then_some(())
            },
        )
        .await;
        let sample = "kindler_finding{code=\"NoDaemon\",severity=\"failure\"}";
        page.wait_metric(sample, f64::from(u8::from(expected)))
            .await;
    };
    degraded(true).await;
    let daemon = Daemon::start(&database, &host).await;
    degraded(false).await;
    daemon.kill();
    degraded(true).await;
}

/// `kindler migrate` would make an empty one, without the records.
#[tokio::test]
async fn a_missing_table_is_named_and_not_made_again() {
    let (database, host) = (migrated().await, Host::new());
    let daemon = Daemon::start(&database, &host).await;
    let sql = database.connect().await;
    sql.run("ALTER TABLE cluster_steps RENAME TO mine").await;
    let words = ["table cluster_steps is missing", "rename it back"];
    shown(&daemon, &database, &host, "SchemaDamaged", &words).await;
    let migrated = kindler(&database.url(), &host).arg("migrate").output();
    let told = String::from_utf8(migrated.unwrap().stderr).unwrap();
    assert!(words.iter().all(|word| told.contains(word)), "{told}");
    sql.run("ALTER TABLE mine RENAME TO cluster_steps").await;
    ended(&daemon, &database, &host, "SchemaDamaged").await;
}

#[tokio::test]
async fn a_missing_privilege_is_shown_with_its_grant() {
    let (database, host) = (migrated().await, Host::new());
    let (sql, user) = (database.connect().await, format!("d_{}", database.name()));
    sql.run(ROLES).await;
    sql.run(&format!(
        "CREATE ROLE \"{user}\" LOGIN IN ROLE kindler_daemon"
    ))
    .await;
    let daemon = Daemon::builder(&database.url_as(&user), &host)
        .start()
        .await;
    // The version is read first: its refusal does not hide the rest.
    sql.run(
        "REVOKE UPDATE (placed_by) ON clusters FROM kindler_daemon;
         REVOKE SELECT ON kindler_migrations FROM kindler_daemon",
    )
    .await;
    let words = ["UPDATE (placed_by) ON clusters", "GRANT ", &user];
    shown(&daemon, &database, &host, "PrivilegeMissing", &words).await;
    sql.run(ROLES).await;
    ended(&daemon, &database, &host, "PrivilegeMissing").await;

    // Nothing of the heartbeat can be written: only this process shows it.
    sql.run("REVOKE INSERT, UPDATE ON kindler_replicas FROM kindler_daemon")
        .await;
    eventually(SHOWN, "the grant", || async {
        let (status, body) = daemon.get("/readyz").await?;
        let grant = "INSERT ON kindler_replicas";
        (status == 200 && body.contains(grant) && body.contains("GRANT")).then_some(())
    })
    .await;
}

#[tokio::test]
async fn row_level_security_that_hides_rows_is_shown() {
    let (database, host) = (migrated().await, Host::new());
    let (sql, user) = (database.connect().await, format!("d_{}", database.name()));
    sql.run(ROLES).await;
    sql.run(&format!(
        "CREATE ROLE \"{user}\" LOGIN IN ROLE kindler_daemon"
    ))
    .await;
    let daemon = Daemon::builder(&database.url_as(&user), &host)
        .start()
        .await;
    sql.run("ALTER TABLE clusters ENABLE ROW LEVEL SECURITY")
        .await;
    let words = [
        "row-level security can hide rows of clusters",
        "ALTER TABLE clusters DISABLE ROW LEVEL SECURITY",
    ];
    shown(&daemon, &database, &host, "RowsHidden", &words).await;
    sql.run("ALTER TABLE clusters DISABLE ROW LEVEL SECURITY")
        .await;
    ended(&daemon, &database, &host, "RowsHidden").await;
}

#[tokio::test]
async fn a_renamed_schema_is_shown_and_nothing_restarts() {
    let (database, host) = (migrated().await, Host::new());
    let daemon = Daemon::start(&database, &host).await;
    let sql = database.connect().await;
    sql.run("ALTER SCHEMA public RENAME TO elsewhere").await;
    eventually(SHOWN, "where the tables are", || async {
        let (status, body) = daemon.get("/readyz").await?;
        let cause = "Kindler's tables are in the schema elsewhere";
        (status == 200 && body.contains(cause) && body.contains("search_path")).then_some(())
    })
    .await;
    sql.run("ALTER SCHEMA elsewhere RENAME TO public").await;
    ended(&daemon, &database, &host, "SchemaUnusable").await;
}

/// With all triggers off no event says that the row was deleted; with the guard off, one does.
#[tokio::test]
async fn a_cluster_whose_row_was_deleted_with_triggers_off_is_named() {
    for triggers in ["USER", "clusters_3_guard_delete"] {
        let (database, host) = (migrated().await, Host::new());
        let daemon = Daemon::start(&database, &host).await;
        let sql = database.connect().await;
        sql.run("INSERT INTO clusters (name, provider) VALUES ('dev', 'kind'), ('qa', 'k3d')")
            .await;
        sql.wait_state("dev", "present running").await;
        sql.wait_state("qa", "present running").await;
        // One that is deleted as declared is no finding.
        sql.run("DELETE FROM clusters WHERE name = 'qa'").await;
        sql.wait_number("SELECT count(*) FROM clusters", 1).await;
        sql.run(&format!(
            "ALTER TABLE clusters DISABLE TRIGGER {triggers};
             DELETE FROM clusters WHERE name = 'dev'; ALTER TABLE clusters ENABLE TRIGGER {triggers}"
        ))
        .await;
        sql.wait_number("SELECT count(*) FROM clusters", 0).await;
        assert!(host.cluster("dev").is_some(), "it was not touched");
        let words = [
            "no row, although they were not declared absent: dev (kind); they are not touched",
            &format!(
                "to remove them: {} -n dev -p kind;",
                host.command("delete").display()
            ),
        ];
        shown(&daemon, &database, &host, "ClustersWithoutRow", &words).await;
        // A daemon that starts later finds it too.
        drop(daemon);
        let daemon = Daemon::start(&database, &host).await;
        shown(&daemon, &database, &host, "ClustersWithoutRow", &words).await;
        // As the finding says.
        let by_hand = std::process::Command::new(host.command("delete"))
            .args(["-n", "dev", "-p", "kind"])
            .status();
        assert!(by_hand.unwrap().success());
        ended(&daemon, &database, &host, "ClustersWithoutRow").await;
        assert_eq!(host.cluster("dev"), None);
        assert_eq!(host.started("qa"), ["create", "delete"]);
    }
}

/// A folder whose files do not answer: a read of a named pipe waits for a writer.
#[tokio::test]
async fn a_state_folder_that_hangs_stops_no_work() {
    let (database, host) = (migrated().await, Host::new());
    let origin = database.store(1).issued_terms().await.unwrap().origin;
    let terms = host.state_dir().join("terms");
    std::fs::create_dir_all(&terms).unwrap();
    let pipe = terms.join(origin);
    let made = std::process::Command::new("mkfifo").arg(&pipe).status();
    assert!(made.unwrap().success());

    let mut daemon = Daemon::start(&database, &host).await;
    let sql = database.connect().await;
    let words = ["does not answer", "check its disk or mount"];
    shown(&daemon, &database, &host, "StateFolderSlow", &words).await;
    sql.declare("dev").await;
    sql.wait_state("dev", "present running").await;
    assert_eq!(
        daemon.metric("kindler_state_folder_usable").await,
        Some(0.0)
    );

    // It answers again.
    drop(std::fs::File::options().write(true).open(&pipe).unwrap());
    ended(&daemon, &database, &host, "StateFolderSlow").await;

    // The file is written now, so it is made a pipe again for the shutdown.
    let hung = host.state_dir().join("logs/dev.log");
    std::fs::remove_file(&hung).unwrap();
    let made = std::process::Command::new("mkfifo").arg(&hung).status();
    assert!(made.unwrap().success());
    sql.run("UPDATE clusters SET http_port = 18099").await;
    sql.wait_text(
        "SELECT (observed_generation = generation)::text FROM clusters",
        "true",
    )
    .await;
    daemon.signal(Signal::TERM);
    let giving_up = std::time::Instant::now() + TIMEOUT;
    while !daemon.has_ended() {
        assert!(std::time::Instant::now() < giving_up, "it does not end");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    sql.wait_number("SELECT count(*) FROM cluster_leases", 0)
        .await;
}

#[tokio::test]
async fn replicas_with_other_settings_and_scripts_are_named() {
    let (database, one, other) = (migrated().await, Host::new(), Host::new());
    let first = Daemon::start(&database, &one).await;
    let second = Daemon::builder(&database.url(), &other)
        .set("KINDLER_DELETE_CAP", "7")
        .start()
        .await;
    for (daemon, cap) in [
        (&first, "KINDLER_DELETE_CAP is 20 here and 7 there"),
        (&second, "KINDLER_DELETE_CAP is 7 here and 20 there"),
    ] {
        eventually(SHOWN, cap, || async {
            let (status, body) = daemon.get("/readyz").await?;
            let scripts = "the files of KINDLER_CREATE_COMMAND differ";
            let shown = body.contains("ReplicasDiffer") && body.contains(cap);
            (status == 200 && shown && body.contains(scripts)).then_some(())
        })
        .await;
    }
    eventually(SHOWN, "the difference in the status", || async {
        let (status, _) = kindler_output(&database.url(), &one, &["status"]);
        status.contains("ReplicasDiffer").then_some(())
    })
    .await;
    let (_, metrics) = first.get("/metrics").await.unwrap();
    let caps = metrics.lines().filter(|line| {
        let series = line.starts_with("kindler_replica_setting_info{");
        series && line.contains("setting=\"delete_cap\"")
    });
    let caps: Vec<_> = caps.collect();
    assert_eq!(caps.len(), 2, "{caps:#?}");
    for value in ["value=\"20\"", "value=\"7\""] {
        assert!(caps.iter().any(|line| line.contains(value)), "{caps:#?}");
    }
    drop(second);
    eventually(TIMEOUT, "the end of the difference", || async {
        let (_, body) = first.get("/readyz").await?;
        (!body.contains("ReplicasDiffer")).then_some(())
    })
    .await;
}

#[tokio::test]
async fn a_replica_on_standby_is_named_by_those_that_work() {
    let (database, host) = (migrated().await, Host::new());
    let daemon = Daemon::start(&database, &host).await;
    let sql = database.connect().await;
    sql.run(
        "INSERT INTO kindler_replicas (owner, host, pid, version, listening, aside, seen_at)
         VALUES ('other', 'otherhost', 7, '0.0.1', true, true, now() + interval '1 hour')",
    )
    .await;
    let named = "otherhost pid 7 (version 0.0.1)";
    eventually(SHOWN, named, || async {
        let (status, body) = daemon.get("/readyz").await?;
        let shown = body.contains("ReplicaOnStandby") && body.contains(named);
        (status == 200 && shown && body.contains("finish the upgrade")).then_some(())
    })
    .await;
    // A warning, as while an upgrade goes on: it is shown, and others work. The help says so.
    let stored = r#"SELECT count(*) FROM kindler_replicas WHERE findings @> '[{"code": "ReplicaOnStandby"}]'"#;
    sql.wait_number(stored, 1).await;
    let (status, exit) = kindler_output(&database.url(), &host, &["status"]);
    assert!(status.contains("ReplicaOnStandby"), "{status}");
    assert_eq!(exit, Some(0), "{status}");
    let (help, _) = kindler_output(&database.url(), &host, &["status", "--help"]);
    let help = help.split_whitespace().collect::<Vec<_>>().join(" ");
    let promised = "a warning, as of one replica on standby while others work, is only shown";
    assert!(help.contains(promised), "{help}");
}

#[tokio::test]
async fn a_schema_that_is_too_old_is_no_outage() {
    let (database, host) = (migrated().await, Host::new());
    let daemon = Daemon::start(&database, &host).await;
    let sql = database.connect().await;
    let newest = "(SELECT max(version) FROM kindler_migrations)";
    sql.run(&format!(
        "CREATE TABLE kept AS SELECT * FROM kindler_migrations WHERE version = {newest};
         DELETE FROM kindler_migrations WHERE version = {newest}"
    ))
    .await;
    eventually(SHOWN, "the old schema", || async {
        let (status, body) = daemon.get("/readyz").await?;
        let shown = body.contains("SchemaUnusable") && body.contains("kindler migrate");
        (status == 200 && shown).then_some(())
    })
    .await;
    sql.run("INSERT INTO kindler_migrations SELECT * FROM kept")
        .await;
    ended(&daemon, &database, &host, "SchemaUnusable").await;
}
