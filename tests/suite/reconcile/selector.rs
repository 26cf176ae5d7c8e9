//! Several placements on one database: each daemon works only on the clusters that it
//! selects, and a cluster stays where its work began.

use tokio_postgres::Client;

use crate::kit::{
    Daemon, Database, Host, Sql, TIMEOUT, eventually, kindler, kindler_output, migrated,
};

/// Starts a daemon with this selector.
async fn daemon_with(database: &Database, host: &Host, selector: &str) -> Daemon {
    Daemon::builder(&database.url(), host)
        .set("KINDLER_SELECTOR", selector)
        .start()
        .await
}

fn labelled(name: &str, labels: &str) -> String {
    format!("INSERT INTO clusters (name, provider, labels) VALUES ('{name}', 'k3d', '{labels}')")
}

async fn placed_by(sql: &Client, name: &str) -> String {
    let query = format!("SELECT placed_by FROM clusters WHERE name = '{name}'");
    sql.text(&query).await
}

#[tokio::test]
async fn each_daemon_creates_its_own_and_unselected_ones_wait() {
    let (database, a, b) = (migrated().await, Host::new(), Host::new());
    let (at_a, at_b) = (
        daemon_with(&database, &a, "host=a").await,
        daemon_with(&database, &b, "host in (b)").await,
    );
    let sql = database.connect().await;
    for n in 0..6 {
        let host = ["a", "b"][n % 2];
        sql.run(&labelled(
            &format!("on-{host}-{n}"),
            &format!(r#"{{"host": "{host}"}}"#),
        ))
        .await;
    }
    sql.run(&labelled("unselected", r#"{"team": "x"}"#)).await;
    sql.run(&labelled("elsewhere", r#"{"host": "c"}"#)).await;
    let running = "SELECT count(*)::text FROM clusters WHERE actual_state = 'running'";
    sql.wait_text(running, "6").await;
    for daemon in [&at_a, &at_b] {
        daemon.full_passes(2).await;
    }

    for (host, other, place) in [(&a, &b, "a"), (&b, &a, "b")] {
        let names = format!(
            "SELECT string_agg(name, ' ' ORDER BY name) FROM clusters WHERE placed_by = 'host={place}'"
        );
        let names = sql.text(&names).await;
        assert_eq!(names.split(' ').count(), 3, "{names}");
        for name in names.split(' ') {
            assert!(name.starts_with(&format!("on-{place}-")), "{names}");
            assert_eq!(host.started(name), ["create"]);
            assert_eq!(other.started(name), Vec::<String>::new());
        }
    }
    for name in ["unselected", "elsewhere"] {
        assert_eq!(sql.state(name).await, "present unknown");
        assert_eq!(
            [a.started(name), b.started(name)].concat(),
            Vec::<String>::new()
        );
        assert_eq!(placed_by(&sql, name).await, "");
    }
    let (output, code) = kindler_output(&database.url(), &a, &["status"]);
    assert!(
        output.contains("works on host=a,") && output.contains("works on host=b,"),
        "{output}"
    );
    assert!(
        output.contains("no daemon selects elsewhere, unselected;"),
        "{output}"
    );
    assert_eq!(code, Some(1));
    assert_eq!(at_a.metric("kindler_clusters_unselected").await, Some(2.0));
    let (_, status) = at_a.get("/api/status").await.unwrap();
    let status: serde_json::Value = serde_json::from_str(&status).unwrap();
    assert_eq!(status["unselected"]["total"], 2, "{status}");
    assert_eq!(status["unselected"]["clusters"][0]["name"], "elsewhere");

    // A label, or a daemon with another selector, starts the work.
    sql.run(r#"UPDATE clusters SET labels = labels || '{"host": "b"}' WHERE name = 'unselected'"#)
        .await;
    sql.wait_state("unselected", "present running").await;
    assert_eq!(b.started("unselected"), ["create"]);
    let c = Host::new();
    let _at_c = daemon_with(&database, &c, "host,host notin (a,b)").await;
    sql.wait_state("elsewhere", "present running").await;
    assert_eq!(c.started("elsewhere"), ["create"]);
    let (output, code) = kindler_output(&database.url(), &a, &["status"]);
    assert_eq!(
        (output.contains("no daemon selects"), code),
        (false, Some(0)),
        "{output}"
    );
}

#[tokio::test]
async fn a_label_wakes_the_daemon_that_selects_it() {
    let (database, a) = (migrated().await, Host::new());
    let _daemon = Daemon::builder(&database.url(), &a)
        .set("KINDLER_SELECTOR", "host=a")
        .set("KINDLER_RESYNC_INTERVAL", "1h")
        .start()
        .await;
    let sql = database.connect().await;
    sql.run(&labelled("one", r#"{"team": "x"}"#)).await;
    sql.run(r#"UPDATE clusters SET labels = labels || '{"host": "a"}'"#)
        .await;
    sql.wait_state("one", "present running").await;
}

#[tokio::test]
async fn a_changed_label_does_not_move_a_placed_cluster() {
    let (database, a, b) = (migrated().await, Host::new(), Host::new());
    let (at_a, at_b) = (
        daemon_with(&database, &a, "host=a").await,
        daemon_with(&database, &b, "host=b").await,
    );
    let sql = database.connect().await;
    sql.run(&labelled("one", r#"{"host": "a"}"#)).await;
    sql.wait_state("one", "present running").await;
    let (output, _) = kindler_output(&database.url(), &a, &["get", "one"]);
    assert!(output.contains("placed by     host=a\n"), "{output}");

    let b_now = r#"UPDATE clusters SET labels = '{"host": "b"}' WHERE name = 'one'"#;
    sql.run(b_now).await;
    // Several notifications, and a change of the spec.
    sql.run("UPDATE clusters SET retry_requested_at = now()")
        .await;
    sql.run("UPDATE clusters SET http_port = 18099").await;
    a.wait_started("one", &["create", "create"]).await;
    for daemon in [&at_a, &at_b] {
        daemon.full_passes(2).await;
    }
    assert_eq!(sql.state("one").await, "present running");
    assert!(b.journal().is_empty(), "{:?}", b.journal());
    let (output, _) = kindler_output(&database.url(), &a, &["get", "one"]);
    let placed = "placed by     host=a; its labels do not match host=a any more; it stays there until it is deleted";
    assert!(output.contains(placed), "{output}");
    let (_, view) = at_b.get("/api/clusters/one").await.unwrap();
    assert!(
        view.contains("it stays there until it is deleted"),
        "{view}"
    );
    // The cluster is placed, so it does not count as unselected.
    let (output, code) = kindler_output(&database.url(), &a, &["status"]);
    assert_eq!(code, Some(0), "{output}");

    sql.run("DELETE FROM clusters").await;
    sql.wait_state("one", "gone").await;
    assert_eq!(a.started("one").last().unwrap(), "delete");
    assert_eq!(a.cluster("one"), None);
    assert!(b.journal().is_empty(), "{:?}", b.journal());
    sql.run(&labelled("one", r#"{"host": "b"}"#)).await;
    sql.wait_state("one", "present running").await;
    assert_eq!(b.started("one"), ["create"]);
    assert_eq!(placed_by(&sql, "one").await, "host=b");
}

#[tokio::test]
async fn a_cluster_that_failed_to_create_may_move() {
    let (database, a, b) = (migrated().await, Host::new(), Host::new());
    a.control("create", "echo the disk is full; exit 1");
    let (at_a, _at_b) = (
        daemon_with(&database, &a, "host=a").await,
        daemon_with(&database, &b, "host=b").await,
    );
    let sql = database.connect().await;
    sql.run(&labelled("one", r#"{"host": "a"}"#)).await;
    sql.wait_state("one", "present failed").await;
    assert!(b.journal().is_empty(), "{:?}", b.journal());
    eventually(
        TIMEOUT,
        "the placement to be cleared between attempts",
        || async { placed_by(&sql, "one").await.is_empty() },
    )
    .await;
    sql.run(r#"UPDATE clusters SET labels = '{"host": "b"}'"#)
        .await;
    sql.wait_state("one", "present running").await;
    assert_eq!(b.started("one"), ["create"]);
    let tries = a.started("one").len();
    at_a.full_passes(2).await;
    assert_eq!(a.started("one").len(), tries);
}

#[tokio::test]
async fn a_dead_daemons_clusters_wait_for_the_same_selector() {
    let (database, a, b) = (migrated().await, Host::new(), Host::new());
    a.control("slow.create", "sleep 600");
    let first = daemon_with(&database, &a, "host=a,tier in (y,x)").await;
    let at_b = daemon_with(&database, &b, "host!=a").await;
    let sql = database.connect().await;
    for name in ["settled", "slow"] {
        sql.run(&labelled(name, r#"{"host": "a", "tier": "x"}"#))
            .await;
    }
    sql.wait_state("settled", "present running").await;
    a.wait_commands(1).await;
    first.kill();
    // The labels do not matter once a cluster is placed.
    sql.run(r#"UPDATE clusters SET labels = '{"host": "b"}'"#)
        .await;
    sql.run("DELETE FROM clusters WHERE name = 'settled'").await;
    a.release("slow.create");
    let held = "SELECT count(*)::text FROM cluster_leases WHERE expires_at > clock_timestamp()";
    sql.wait_text(held, "0").await;
    at_b.full_passes(2).await;
    assert!(b.journal().is_empty(), "{:?}", b.journal());
    assert_eq!(sql.state("slow").await, "present creating");
    assert_eq!(sql.state("settled").await, "absent running");

    // The same selector in another notation.
    let _second = daemon_with(&database, &a, "tier in (x, y), host==a").await;
    sql.wait_state("slow", "present running").await;
    sql.wait_state("settled", "gone").await;
    assert_eq!(a.started("slow"), ["create", "create"]);
    assert_eq!(a.started("settled"), ["create", "delete"]);
    a.assert_one_at_a_time();
    assert!(b.journal().is_empty(), "{:?}", b.journal());
}

#[tokio::test]
async fn a_daemon_without_a_selector_works_on_all_clusters() {
    let (database, host) = (migrated().await, Host::new());
    let (_selecting, free) = (
        daemon_with(&database, &host, "tier=dev").await,
        Daemon::start(&database, &host).await,
    );
    let sql = database.connect().await;
    sql.run(
        r#"INSERT INTO clusters (name, provider, labels)
           SELECT 'c' || n, 'kind', CASE WHEN n % 2 = 0 THEN '{"tier": "dev"}'::jsonb ELSE '{}' END
           FROM generate_series(1, 20) n"#,
    )
    .await;
    let running = "SELECT count(*)::text FROM clusters WHERE actual_state = 'running'";
    sql.wait_text(running, "20").await;
    assert_eq!(
        host.journal().iter().filter(|e| e.what == "start").count(),
        20,
        "one create for each cluster"
    );
    host.assert_one_at_a_time();
    let (output, code) = kindler_output(&database.url(), &host, &["status"]);
    assert_eq!(code, Some(0), "{output}");
    assert_eq!(free.metric("kindler_clusters_unselected").await, Some(0.0));
    sql.run("DELETE FROM clusters").await;
    let left = "SELECT count(*)::text FROM clusters";
    sql.wait_text(left, "0").await;
    host.assert_one_at_a_time();
}

#[tokio::test]
async fn clusters_placed_elsewhere_do_not_defer_repairs() {
    let (database, a, b) = (migrated().await, Host::new(), Host::new());
    let (_at_a, _at_b) = (
        daemon_with(&database, &a, "host=a").await,
        daemon_with(&database, &b, "host=b").await,
    );
    let sql = database.connect().await;
    sql.run(&labelled("one", r#"{"host": "a"}"#)).await;
    for n in 0..6 {
        sql.run(&labelled(&format!("other-{n}"), r#"{"host": "b"}"#))
            .await;
    }
    let running = "SELECT count(*)::text FROM clusters WHERE actual_state = 'running'";
    sql.wait_text(running, "7").await;
    // If host a were asked about them, the clusters of host b would all be down.
    a.set_cluster("one", None);
    a.wait_started("one", &["create", "create"]).await;
    sql.wait_state("one", "present running").await;
}

#[tokio::test]
async fn once_ends_when_its_own_clusters_are_settled() {
    let (database, host) = (migrated().await, Host::new());
    let sql = database.connect().await;
    sql.run(&labelled("mine", r#"{"host": "a"}"#)).await;
    sql.run(&labelled("theirs", r#"{"host": "b"}"#)).await;
    let once = |selector: &str| {
        let mut command = kindler(&database.url(), &host);
        crate::kit::daemon_settings(&mut command, &host);
        command.args(["once", "--selector", selector]);
        command.output().unwrap()
    };
    let ended = once("host=a");
    assert_eq!(ended.status.code(), Some(0), "{ended:?}");
    assert_eq!(sql.state("mine").await, "present running");
    assert_eq!(sql.state("theirs").await, "present unknown");
    assert_eq!(host.started("theirs"), Vec::<String>::new());
    let ended = once("a b");
    assert_eq!(ended.status.code(), Some(2), "{ended:?}");
    let output = String::from_utf8(ended.stderr).unwrap();
    assert!(
        output.contains(r#"selector: "a b" is not understood: use KEY=VALUE"#),
        "{output}"
    );
}
