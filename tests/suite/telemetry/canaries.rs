//! Secrets are planted wherever Kindler meets some, and looked for wherever it
//! tells something: there is none of them anywhere.

use std::fs;

use rustix::process::Signal;

use super::http::{ask, send};
use super::{SOON, Scene, migrated};
use crate::kit::{Daemon, Host, eventually, kindler};

/// What all of them have in common.
const CANARY: &str = "sekret-canary";

/// Prints one secret in each form in which scripts do, and fails until it is let.
const TALKATIVE: &str = r#"
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
    sql.batch_execute(
        "CREATE ROLE canary LOGIN PASSWORD 'sekret-canary-url' SUPERUSER;
         CREATE ROLE canary_api LOGIN PASSWORD 'sekret-canary-api-url' SUPERUSER",
    )
    .await
    .unwrap();
    let url = |role: &str, password: &str| {
        let url = database.url_as(role);
        url.replace(&format!("{role}@"), &format!("{role}:{password}@"))
    };
    host.control("dev.create", TALKATIVE);
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

/// What a client sends as a credential is a secret too, right or wrong.
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

/// Everything that is told over HTTP.
async fn served(scene: &Scene) -> Vec<(String, String)> {
    let mut told = Vec::new();
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
        told.push((path.to_owned(), text));
    }
    told
}

/// Everything that commands tell a person.
async fn said(scene: &Scene) -> Vec<(String, String)> {
    let mut told = Vec::new();
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
        told.push((args.join(" "), String::from_utf8_lossy(&text).into_owned()));
    }
    told
}

/// The argument lists of the daemon and of all that it started.
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

fn assert_none(told: &[(String, String)]) {
    for (place, text) in told {
        assert!(!text.is_empty(), "nothing was told by {place}");
        assert!(!text.contains(CANARY), "{place} tells: {text}");
    }
}

#[tokio::test]
async fn no_secret_is_told_anywhere() {
    let scene = planted().await;
    scene.declare("dev").await;
    scene.until("dev", "failed").await;
    send_tokens(&scene).await;
    let mut told = served(&scene).await;
    told.extend(said(&scene).await);
    let errors = "SELECT coalesce(string_agg(c::text, ' '), '') FROM clusters c";
    told.push(("rows".to_owned(), scene.database.value(errors).await));
    // The failure is told, and where it says most.
    for place in ["/api/clusters/dev", "get dev", "rows"] {
        let (_, text) = told.iter().find(|(of, _)| of == place).unwrap();
        assert!(text.contains("the last word"), "{place}: {text}");
        assert!(
            text.contains("cloning https://git:***@git"),
            "{place}: {text}"
        );
    }
    assert_none(&told);

    scene.host.release("fails");
    scene.until("dev", "running").await;
    let mut told = served(&scene).await;
    told.push(("process list".to_owned(), process_list(scene.daemon.pid())));
    let events = "SELECT coalesce(string_agg(e::text, ' '), '') FROM cluster_events e";
    told.push(("books".to_owned(), scene.database.value(events).await));

    // A database that throws it out makes every part complain.
    scene
        .run(
            "ALTER ROLE canary NOLOGIN; ALTER ROLE canary_api NOLOGIN;
             SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename LIKE 'canary%'",
        )
        .await;
    eventually(SOON, "the outage to be told", || async {
        let ready = scene.daemon.get("/readyz").await;
        ready.is_some_and(|(status, _)| status == 503)
    })
    .await;
    told.extend(served(&scene).await);
    let read = |path| fs::read_to_string(path).unwrap();
    told.push((
        "cluster log".to_owned(),
        read(scene.host.state_dir().join("logs/dev.log")),
    ));
    scene.daemon.signal(Signal::USR1);
    told.push(("log".to_owned(), scene.daemon.log()));
    assert_none(&told);

    // A command is given what it was to be given, and nothing of the daemon's own.
    let environment = read(scene.host.path().join("live/environment"));
    assert!(environment.contains("GIT_PASSWORD=sekret-canary-passed"));
    let others = environment.replace("sekret-canary-passed", "");
    assert!(!others.contains(CANARY), "{others}");
    scene
        .run("DROP OWNED BY canary, canary_api; DROP ROLE canary; DROP ROLE canary_api")
        .await;
}
