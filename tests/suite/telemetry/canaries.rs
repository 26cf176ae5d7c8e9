//! Secrets are planted in every input of Kindler, and none appears in any output.

use std::fs;

use rustix::process::Signal;

use super::http::{ask, send};
use super::{SOON, Scene, migrated};
use crate::kit::{Daemon, Host, Sql, eventually, kindler};

/// The common prefix of the planted secrets.
const CANARY: &str = "sekret-canary";

/// Prints a secret in each form that scripts use; fails while `control/fails` exists.
const VERBOSE_CREATE: &str = r#"
    env > "$here/live/environment"
    cat /proc/$PPID/environ >> "$here/live/environment"
    echo "cloning https://git:sekret-canary-git@git.example.org/x.git"
    echo "+ argocd login --username admin --password sekret-canary-flag --insecure" >&2
    echo "PORTAINER_ADMIN_PASSWORD=sekret-canary-assigned"
    echo '{"jwt":"sekret-canary-jwt","Id":3}'
    echo "curl -H 'Authorization: Bearer sekret-canary-bearer'"
    echo "    token: sekret-canary-yaml"
    echo "logged in with $GIT_PASSWORD as $GIT_USERNAME"
    printf -- '-----BEGIN EC PRIVATE KEY-----\nsekret-canary-key\n-----END EC PRIVATE KEY-----\n'
    echo "and the database is sekret-canary-url, says who knows"
    echo "the last word"
    [ -e "$here/control/fails" ] && exit 3
"#;

async fn planted() -> Scene {
    let (database, host) = (migrated().await, Host::new());
    let sql = database.connect().await;
    sql.run(
        "CREATE ROLE canary LOGIN PASSWORD 'sekret-canary-url' SUPERUSER;
         CREATE ROLE canary_api LOGIN PASSWORD 'sekret-canary-api-url' SUPERUSER",
    )
    .await;
    let url = |role: &str, password: &str| {
        let url = database.url_as(role);
        url.replace(&format!("{role}@"), &format!("{role}:{password}@"))
    };
    host.control("dev.create", VERBOSE_CREATE);
    host.control("fails", "");
    let daemon = Daemon::builder(&url("canary", "sekret-canary-url"), &host)
        .set(
            "KINDLER_API_DATABASE_URL",
            url("canary_api", "sekret-canary-api-url"),
        )
        .set("KINDLER_LOG", "debug")
        .set("KINDLER_PASS_ENV", "GIT_PASSWORD,GIT_USERNAME")
        .set("GIT_PASSWORD", "sekret-canary-passed")
        .set("GIT_USERNAME", "developer")
        .set("HOST_ADMIN_TOKEN", "sekret-canary-not-passed")
        .spawn();
    daemon.ready().await;
    Scene {
        daemon,
        host,
        sql,
        database,
    }
}

/// A credential that a client sends is a secret, valid or not.
async fn send_tokens(scene: &Scene) {
    let token = "kdl_sekret-canary-token-0123456789abcdefghijklm";
    for head in [
        format!("Authorization: Bearer {token}"),
        format!("Authorization: Basic {token}"),
        format!("Cookie: kindler_session={token}; kindler={token}"),
    ] {
        for path in [
            "/api/clusters",
            "/api/clusters/dev/kubeconfig",
            "/metrics",
            "/",
        ] {
            ask(&scene.daemon, "GET", path, &head).await;
        }
    }
    for path in [
        format!("/api/stream-not?token={token}"),
        format!("/?access_token={token}"),
    ] {
        send(&scene.daemon, "GET", &path).await;
    }
}

/// Every response over HTTP.
async fn responses(scene: &Scene) -> Vec<(String, String)> {
    let mut shown = Vec::new();
    for path in [
        "/metrics",
        "/readyz",
        "/",
        "/docs",
        "/openapi.json",
        "/api/clusters",
        "/api/clusters/dev",
        "/api/clusters/dev/status",
        "/api/clusters/dev/log?lines=1000",
        "/api/clusters/dev/history",
        "/api/clusters/dev/revisions",
        "/api/audit",
        "/api/status",
        "/api/config",
        "/api/tasks/reconcile-dev",
    ] {
        let (_, text) = send(&scene.daemon, "GET", path).await;
        shown.push((path.to_owned(), text));
    }
    shown
}

/// The output of every command.
async fn outputs(scene: &Scene) -> Vec<(String, String)> {
    let mut shown = Vec::new();
    for args in [
        &["list", "-o", "json"][..],
        &["get", "dev", "-o", "json"],
        &["get", "dev"],
        &["events", "dev", "-o", "json"],
        &["logs", "dev"],
        &["status"],
        &["status", "-o", "json"],
    ] {
        let url = scene.database.url();
        let mut command = kindler(&url, &scene.host);
        command.args(args);
        let output = tokio::task::spawn_blocking(move || command.output().unwrap());
        let output = output.await.unwrap();
        let text = [output.stdout, output.stderr].concat();
        shown.push((args.join(" "), String::from_utf8_lossy(&text).into_owned()));
    }
    shown
}

/// The arguments of the daemon and of its child processes.
fn process_list(daemon: i32) -> String {
    let mut lists = String::new();
    for process in fs::read_dir("/proc").unwrap().flatten() {
        let path = process.path();
        let read = |file: &str| fs::read(path.join(file)).unwrap_or_default();
        let status = String::from_utf8_lossy(&read("status")).into_owned();
        let own = path.ends_with(daemon.to_string());
        if own || status.contains(&format!("\nPPid:\t{daemon}\n")) {
            lists += &String::from_utf8_lossy(&read("cmdline")).replace('\0', " ");
            lists.push('\n');
        }
    }
    lists
}

fn assert_none(shown: &[(String, String)]) {
    for (place, text) in shown {
        assert!(!text.is_empty(), "{place} is empty");
        assert!(!text.contains(CANARY), "{place}: {text}");
    }
}

#[tokio::test]
async fn no_secret_appears_in_any_output() {
    let scene = planted().await;
    scene.sql.declare("dev").await;
    scene.sql.wait_state("dev", "present failed").await;
    send_tokens(&scene).await;
    let mut shown = responses(&scene).await;
    shown.extend(outputs(&scene).await);
    let errors = "SELECT coalesce(string_agg(c::text, ' '), '') FROM clusters c";
    shown.push(("rows".to_owned(), scene.database.value(errors).await));
    // The failure is reported in each of these places.
    for place in ["/api/clusters/dev", "get dev", "rows"] {
        let (_, text) = shown.iter().find(|(of, _)| of == place).unwrap();
        assert!(text.contains("the last word"), "{place}: {text}");
        assert!(
            text.contains("cloning https://git:***@git"),
            "{place}: {text}"
        );
    }
    assert_none(&shown);

    scene.host.release("fails");
    scene.sql.wait_state("dev", "present running").await;
    let mut shown = responses(&scene).await;
    shown.push(("process list".to_owned(), process_list(scene.daemon.pid())));
    let events = "SELECT coalesce(string_agg(e::text, ' '), '') FROM cluster_events e";
    shown.push(("events".to_owned(), scene.database.value(events).await));

    // With a database that rejects its login, every part logs errors.
    scene
        .sql
        .run(
            "ALTER ROLE canary NOLOGIN; ALTER ROLE canary_api NOLOGIN;
             SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename LIKE 'canary%'",
        )
        .await;
    eventually(SOON, "the outage to be reported", || async {
        let ready = scene.daemon.get("/readyz").await;
        ready.is_some_and(|(status, _)| status == 503)
    })
    .await;
    shown.extend(responses(&scene).await);
    let read = |path| fs::read_to_string(path).unwrap();
    shown.push((
        "cluster log".to_owned(),
        read(scene.host.state_dir().join("logs/dev.log")),
    ));
    scene.daemon.signal(Signal::USR1);
    shown.push(("log".to_owned(), scene.daemon.log()));
    assert_none(&shown);

    // A command gets the configured variables, and none of the daemon's secrets.
    let environment = read(scene.host.path().join("live/environment"));
    assert!(environment.contains("GIT_PASSWORD=sekret-canary-passed"));
    let others = environment.replace("sekret-canary-passed", "");
    assert!(!others.contains(CANARY), "{others}");
    scene
        .sql
        .run("DROP OWNED BY canary, canary_api; DROP ROLE canary; DROP ROLE canary_api")
        .await;
}
