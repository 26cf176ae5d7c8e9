//! `kindler doctor` on a real daemon: what is fine, what is not, and what to do.

use std::os::unix::fs::PermissionsExt;

use serde_json::Value;

use crate::kit::{
    Daemon, Database, Host, PrivateServer, Sql, TIMEOUT, eventually, kindler, kindler_output,
    migrated,
};

fn doctor(database: &Database, host: &Host) -> (Value, Option<i32>) {
    let (text, code) = kindler_output(&database.url(), host, &["doctor", "-o", "json"]);
    (serde_json::from_str(&text).expect(&text), code)
}

/// The check of this name.
fn check<'a>(report: &'a Value, name: &str) -> &'a Value {
    let checks = report["checks"].as_array().unwrap();
    let found = checks.iter().find(|check| check["name"] == name);
    found.unwrap_or_else(|| panic!("{name} is not in {report:#}"))
}

/// The checks in this state.
fn in_state(report: &Value, state: &str) -> Vec<String> {
    let checks = report["checks"].as_array().unwrap().iter();
    let these = checks.filter(|check| check["state"] == state);
    these
        .map(|check| check["name"].as_str().unwrap().to_owned())
        .collect()
}

#[tokio::test]
async fn doctor_names_settings_with_their_sources() {
    let (database, host) = (migrated().await, Host::new());
    // Only the daemon has this folder in its PATH.
    let tools = host.path().join("tools");
    std::fs::create_dir(&tools).unwrap();
    let tool = tools.join("kind");
    std::fs::write(&tool, "#!/bin/sh\necho kind v0.99.0\n").unwrap();
    std::fs::set_permissions(&tool, std::fs::Permissions::from_mode(0o755)).unwrap();
    let path = std::env::var("PATH").unwrap();
    let daemon = Daemon::builder(&database.url(), &host)
        .set("PATH", format!("{}:{path}", tools.display()))
        .start()
        .await;
    let sql = database.connect().await;
    sql.wait_number("SELECT count(*) FROM kindler_replicas WHERE listening", 1)
        .await;
    let (report, code) = doctor(&database, &host);
    // Tests run as a superuser, on a server that is not durable.
    assert_eq!(in_state(&report, "failure"), [""; 0], "{report:#}");
    assert_eq!(code, Some(1));
    assert!(
        check(&report, "role")["found"]
            .as_str()
            .unwrap()
            .contains("superuser")
    );
    assert_eq!(
        check(&report, "lease_ttl")["found"],
        "3s (variable KINDLER_LEASE_TTL)"
    );
    let url = check(&report, "database_url")["found"].as_str().unwrap();
    assert!(url.starts_with("(not shown)"), "{url}");
    assert!(
        check(&report, "version")["found"]
            .as_str()
            .unwrap()
            .starts_with("PostgreSQL ")
    );
    for name in [
        "pooler",
        "connections",
        "clock",
        "schema",
        "state folder",
        "scripts",
    ] {
        assert_eq!(check(&report, name)["state"], "fine", "{name}: {report:#}");
    }
    assert_eq!(check(&report, "kind")["found"], "kind v0.99.0");
    let running = format!(" pid {}", daemon.pid());
    assert!(
        in_state(&report, "fine")
            .iter()
            .any(|name| name.ends_with(&running))
    );
    for one in report["checks"].as_array().unwrap() {
        let advised = one["next"].as_str().is_some_and(|next| !next.is_empty());
        assert_eq!(one["state"] != "fine", advised, "{one}");
    }
}

#[tokio::test]
async fn doctor_says_what_to_do_about_each_failure() {
    let (database, host) = (migrated().await, Host::new());
    let _daemon = Daemon::start(&database, &host).await;
    let sql = database.connect().await;
    sql.run("ALTER TABLE clusters DISABLE TRIGGER clusters_3_guard_delete")
        .await;
    let script = host.command("create");
    std::fs::set_permissions(&script, std::fs::Permissions::from_mode(0o644)).unwrap();
    sql.wait_number(
        "SELECT count(*) FROM kindler_replicas WHERE settings <> '{}'",
        1,
    )
    .await;
    let (text, code) = kindler_output(&database.url(), &host, &["doctor"]);
    assert_eq!(code, Some(2), "{text}");
    for words in [
        "trigger clusters_3_guard_delete on clusters is disabled",
        "next: `kindler migrate`",
        "is not executable",
        "next: chmod +x",
    ] {
        assert!(text.contains(words), "{words} is not in\n{text}");
    }
}

#[tokio::test]
async fn doctor_without_a_database_checks_the_host() {
    let host = Host::new();
    let (text, code) = kindler_output("postgresql://u@127.0.0.1:1/x", &host, &["doctor"]);
    assert_eq!(code, Some(2), "{text}");
    assert!(text.contains("next: check KINDLER_DATABASE_URL"), "{text}");
    assert!(
        text.contains("of this shell: no daemon runs on this host"),
        "{text}"
    );
    assert!(text.contains("state folder"), "{text}");
}

#[tokio::test]
async fn doctor_reports_an_invalid_setting_itself() {
    let (database, host) = (migrated().await, Host::new());
    let output = kindler(&database.url(), &host)
        .arg("doctor")
        .env("KINDLER_LEASE_TTL", "1 fortnight")
        .output()
        .unwrap();
    let text = String::from_utf8([output.stdout, output.stderr].concat()).unwrap();
    assert_eq!(output.status.code(), Some(2), "{text}");
    assert!(text.contains("KINDLER_LEASE_TTL"), "{text}");
}

#[tokio::test]
async fn doctor_checks_the_tools_of_the_native_driver() {
    let (database, host) = (migrated().await, Host::new());
    let mut command = kindler(&database.url(), &host);
    command
        .args(["doctor", "-o", "json"])
        .env("KINDLER_DRIVER", "native")
        .env("PATH", host.path());
    let ended = tokio::task::spawn_blocking(move || command.output().unwrap());
    let report: Value = serde_json::from_slice(&ended.await.unwrap().stdout).unwrap();
    for tool in ["k3d", "kind"] {
        assert_eq!(check(&report, tool)["state"], "warning", "{report:#}");
    }
}

#[tokio::test]
async fn doctor_finds_no_daemon() {
    let (database, host) = (migrated().await, Host::new());
    let daemon = Daemon::start(&database, &host).await;
    daemon.kill();
    eventually(TIMEOUT, "the end of the heartbeats", || async {
        let (report, code) = doctor(&database, &host);
        let failures = in_state(&report, "failure");
        let running = failures.iter().any(|name| name == "running");
        (code == Some(2) && running).then_some(())
    })
    .await;
}

/// Its credential is the one that root's commands find on a host with the package.
#[tokio::test]
async fn doctor_asks_no_login_for_more_than_its_role_has() {
    let (database, host) = (migrated().await, Host::new());
    let sql = database.connect().await;
    sql.run(include_str!("../../../sql/roles.sql")).await;
    for role in ["kindler_daemon", "kindler_api", "kindler_reader"] {
        let login = format!("{role}_{}", database.name());
        sql.run(&format!("CREATE ROLE \"{login}\" LOGIN IN ROLE {role}"))
            .await;
        let (text, _) = kindler_output(&database.url_as(&login), &host, &["doctor"]);
        assert!(text.contains(&format!("a member of {role}")), "{text}");
        assert!(!text.contains("PrivilegeMissing"), "{role}: {text}");
        sql.run(&format!("REVOKE {role} FROM \"{login}\"; GRANT SELECT ON ALL TABLES IN SCHEMA public TO \"{login}\""))
            .await;
        let (text, _) = kindler_output(&database.url_as(&login), &host, &["doctor"]);
        assert!(text.contains("PrivilegeMissing"), "{role}: {text}");
    }
}

#[tokio::test]
async fn doctor_finds_a_locked_table() {
    let (database, host) = (migrated().await, Host::new());
    let _daemon = Daemon::start(&database, &host).await;
    let other = database.connect().await;
    other
        .run("SET application_name = 'migration-tool'; BEGIN; LOCK TABLE clusters IN ACCESS EXCLUSIVE MODE")
        .await;
    let (text, code) = kindler_output(&database.url(), &host, &["doctor"]);
    assert_eq!(code, Some(2), "{text}");
    assert!(text.contains("migration-tool"), "{text}");
}

#[tokio::test]
async fn doctor_wants_no_tls_on_the_same_host() {
    const HBA: &str = "local all all trust\nhost all all 127.0.0.0/8 trust\n";
    let files = [("pg_hba.conf", HBA.into())];
    let (server, address) = PrivateServer::create_on_address(&files).await;
    // postgresql://USER@/DATABASE?host=SOCKET
    let url = server
        .url("postgres")
        .replacen("@", &format!("@{address}"), 1);
    let url = url.split('?').next().unwrap();
    let (text, _) = kindler_output(url, &Host::new(), &["doctor"]);
    assert!(text.contains("answers"), "{text}");
    assert!(!text.contains("not encrypted"), "{text}");
}
