//! Several places on one database: each daemon works only on what it selects,
//! and a cluster stays where it was begun.

use tokio_postgres::Client;

use super::{SOON, migrated, run, state, text, until};
use crate::kit::{Daemon, Database, Host, eventually, kindler};

/// A daemon of a place.
async fn at(database: &Database, host: &Host, selector: &str) -> Daemon {
    let daemon = Daemon::builder(&database.url(), host)
        .set("KINDLER_SELECTOR", selector)
        .spawn();
    daemon.ready().await;
    daemon
}

fn labelled(name: &str, labels: &str) -> String {
    format!("INSERT INTO clusters (name, provider, labels) VALUES ('{name}', 'k3d', '{labels}')")
}

async fn placed_by(sql: &Client, name: &str) -> String {
    let query = format!("SELECT placed_by FROM clusters WHERE name = '{name}'");
    text(sql, &query).await
}

/// What a command of a person says, and its exit code.
fn said(database: &Database, host: &Host, args: &[&str]) -> (String, Option<i32>) {
    let ended = kindler(&database.url(), host).args(args).output().unwrap();
    (
        String::from_utf8(ended.stdout).unwrap(),
        ended.status.code(),
    )
}

#[tokio::test]
async fn each_place_makes_its_own_and_what_nobody_selects_waits_and_is_shown() {
    let (database, a, b) = (migrated().await, Host::new(), Host::new());
    let (at_a, at_b) = (
        at(&database, &a, "host=a").await,
        at(&database, &b, "host in (b)").await,
    );
    let sql = database.connect().await;
    for n in 0..6 {
        let host = ["a", "b"][n % 2];
        run(
            &sql,
            &labelled(
                &format!("on-{host}-{n}"),
                &format!(r#"{{"host": "{host}"}}"#),
            ),
        )
        .await;
    }
    run(&sql, &labelled("nobodys", r#"{"team": "x"}"#)).await;
    run(&sql, &labelled("elsewhere", r#"{"host": "c"}"#)).await;
    let running = "SELECT count(*)::text FROM clusters WHERE actual_state = 'running'";
    eventually(SOON, "six to run", || async {
        text(&sql, running).await == "6"
    })
    .await;
    for daemon in [&at_a, &at_b] {
        daemon.full_passes(2).await;
    }

    for (host, other, place) in [(&a, &b, "a"), (&b, &a, "b")] {
        let names = format!(
            "SELECT string_agg(name, ' ' ORDER BY name) FROM clusters WHERE placed_by = 'host={place}'"
        );
        let names = text(&sql, &names).await;
        assert_eq!(names.split(' ').count(), 3, "{names}");
        for name in names.split(' ') {
            assert!(name.starts_with(&format!("on-{place}-")), "{names}");
            assert_eq!(host.started(name), ["create"]);
            assert_eq!(other.started(name), Vec::<String>::new());
        }
    }
    for name in ["nobodys", "elsewhere"] {
        assert_eq!(state(&sql, name).await, "present unknown");
        assert_eq!(
            [a.started(name), b.started(name)].concat(),
            Vec::<String>::new()
        );
        assert_eq!(placed_by(&sql, name).await, "");
    }
    let (told, code) = said(&database, &a, &["status"]);
    assert!(
        told.contains("works on host=a,") && told.contains("works on host=b,"),
        "{told}"
    );
    assert!(
        told.contains("no daemon selects elsewhere, nobodys;"),
        "{told}"
    );
    assert_eq!(code, Some(1));
    assert_eq!(at_a.metric("kindler_clusters_unselected").await, Some(2.0));
    let (_, status) = at_a.get("/api/status").await.unwrap();
    let status: serde_json::Value = serde_json::from_str(&status).unwrap();
    assert_eq!(status["unselected"]["total"], 2, "{status}");
    assert_eq!(status["unselected"]["clusters"][0]["name"], "elsewhere");

    // A label, or a daemon, and it goes on.
    run(
        &sql,
        r#"UPDATE clusters SET labels = labels || '{"host": "b"}' WHERE name = 'nobodys'"#,
    )
    .await;
    until(&sql, "nobodys", "present running").await;
    assert_eq!(b.started("nobodys"), ["create"]);
    let c = Host::new();
    let _at_c = at(&database, &c, "host,host notin (a,b)").await;
    until(&sql, "elsewhere", "present running").await;
    assert_eq!(c.started("elsewhere"), ["create"]);
    let (told, code) = said(&database, &a, &["status"]);
    assert_eq!(
        (told.contains("no daemon selects"), code),
        (false, Some(0)),
        "{told}"
    );
}

#[tokio::test]
async fn a_label_wakes_whom_it_concerns() {
    let (database, a) = (migrated().await, Host::new());
    let daemon = Daemon::builder(&database.url(), &a)
        .set("KINDLER_SELECTOR", "host=a")
        .set("KINDLER_RESYNC_INTERVAL", "1h")
        .spawn();
    daemon.ready().await;
    let sql = database.connect().await;
    run(&sql, &labelled("one", r#"{"team": "x"}"#)).await;
    run(
        &sql,
        r#"UPDATE clusters SET labels = labels || '{"host": "a"}'"#,
    )
    .await;
    until(&sql, "one", "present running").await;
}

#[tokio::test]
async fn a_changed_label_moves_nothing_and_the_delete_goes_to_the_right_host() {
    let (database, a, b) = (migrated().await, Host::new(), Host::new());
    let (at_a, at_b) = (
        at(&database, &a, "host=a").await,
        at(&database, &b, "host=b").await,
    );
    let sql = database.connect().await;
    run(&sql, &labelled("one", r#"{"host": "a"}"#)).await;
    until(&sql, "one", "present running").await;
    let (told, _) = said(&database, &a, &["get", "one"]);
    assert!(told.contains("placed by     host=a\n"), "{told}");

    let b_now = r#"UPDATE clusters SET labels = '{"host": "b"}' WHERE name = 'one'"#;
    run(&sql, b_now).await;
    // Every kind of ring, and a change of the spec.
    run(&sql, "UPDATE clusters SET retry_requested_at = now()").await;
    run(&sql, "UPDATE clusters SET http_port = 18099").await;
    eventually(SOON, "the spec to be applied", || async {
        a.started("one") == ["create", "create"]
    })
    .await;
    for daemon in [&at_a, &at_b] {
        daemon.full_passes(2).await;
    }
    assert_eq!(state(&sql, "one").await, "present running");
    assert!(b.journal().is_empty(), "{:?}", b.journal());
    let (told, _) = said(&database, &a, &["get", "one"]);
    let strays = "placed by     host=a; its labels do not match host=a any more; it stays there until it is deleted";
    assert!(told.contains(strays), "{told}");
    let (_, view) = at_b.get("/api/clusters/one").await.unwrap();
    assert!(
        view.contains("it stays there until it is deleted"),
        "{view}"
    );
    // It is somebody's, so it waits for nobody.
    let (told, code) = said(&database, &a, &["status"]);
    assert_eq!(code, Some(0), "{told}");

    run(&sql, "DELETE FROM clusters").await;
    until(&sql, "one", "gone").await;
    assert_eq!(a.started("one").last().unwrap(), "delete");
    assert_eq!(a.world("one"), None);
    assert!(b.journal().is_empty(), "{:?}", b.journal());
    run(&sql, &labelled("one", r#"{"host": "b"}"#)).await;
    until(&sql, "one", "present running").await;
    assert_eq!(b.started("one"), ["create"]);
    assert_eq!(placed_by(&sql, "one").await, "host=b");
}

#[tokio::test]
async fn what_could_not_be_made_may_go_elsewhere() {
    let (database, a, b) = (migrated().await, Host::new(), Host::new());
    a.control("create", "echo the disk is full; exit 1");
    let (at_a, _at_b) = (
        at(&database, &a, "host=a").await,
        at(&database, &b, "host=b").await,
    );
    let sql = database.connect().await;
    run(&sql, &labelled("one", r#"{"host": "a"}"#)).await;
    until(&sql, "one", "present failed").await;
    assert!(b.journal().is_empty(), "{:?}", b.journal());
    eventually(SOON, "its place to be free between attempts", || async {
        placed_by(&sql, "one").await.is_empty()
    })
    .await;
    run(&sql, r#"UPDATE clusters SET labels = '{"host": "b"}'"#).await;
    until(&sql, "one", "present running").await;
    assert_eq!(b.started("one"), ["create"]);
    let tries = a.started("one").len();
    at_a.full_passes(2).await;
    assert_eq!(a.started("one").len(), tries);
}

#[tokio::test]
async fn the_clusters_of_a_dead_daemon_wait_for_one_of_the_same_place() {
    let (database, a, b) = (migrated().await, Host::new(), Host::new());
    a.control("slow.create", "sleep 600");
    let first = at(&database, &a, "host=a,tier in (y,x)").await;
    let at_b = at(&database, &b, "host!=a").await;
    let sql = database.connect().await;
    for name in ["settled", "slow"] {
        run(&sql, &labelled(name, r#"{"host": "a", "tier": "x"}"#)).await;
    }
    until(&sql, "settled", "present running").await;
    eventually(SOON, "the create to run", || async {
        !a.live_commands().is_empty()
    })
    .await;
    first.kill();
    // Whatever their labels are by now.
    run(&sql, r#"UPDATE clusters SET labels = '{"host": "b"}'"#).await;
    run(&sql, "DELETE FROM clusters WHERE name = 'settled'").await;
    a.release("slow.create");
    let held = "SELECT count(*)::text FROM cluster_leases WHERE expires_at > clock_timestamp()";
    eventually(SOON, "the dead daemon's lease to be over", || async {
        text(&sql, held).await == "0"
    })
    .await;
    at_b.full_passes(2).await;
    assert!(b.journal().is_empty(), "{:?}", b.journal());
    assert_eq!(state(&sql, "slow").await, "present creating");
    assert_eq!(state(&sql, "settled").await, "absent running");

    // The same place in other words.
    let _second = at(&database, &a, "tier in (x, y), host==a").await;
    until(&sql, "slow", "present running").await;
    until(&sql, "settled", "gone").await;
    assert_eq!(a.started("slow"), ["create", "create"]);
    assert_eq!(a.started("settled"), ["create", "delete"]);
    a.assert_one_at_a_time();
    assert!(b.journal().is_empty(), "{:?}", b.journal());
}

#[tokio::test]
async fn a_daemon_without_a_selector_works_on_everything_beside_one_that_selects() {
    let (database, host) = (migrated().await, Host::new());
    let (_selecting, free) = (
        at(&database, &host, "tier=dev").await,
        Daemon::start(&database, &host).await,
    );
    let sql = database.connect().await;
    run(
        &sql,
        r#"INSERT INTO clusters (name, provider, labels)
           SELECT 'c' || n, 'kind', CASE WHEN n % 2 = 0 THEN '{"tier": "dev"}'::jsonb ELSE '{}' END
           FROM generate_series(1, 20) n"#,
    )
    .await;
    let running = "SELECT count(*)::text FROM clusters WHERE actual_state = 'running'";
    eventually(SOON, "all to run", || async {
        text(&sql, running).await == "20"
    })
    .await;
    assert_eq!(
        host.journal().iter().filter(|e| e.what == "start").count(),
        20,
        "each once"
    );
    host.assert_one_at_a_time();
    let (told, code) = said(&database, &host, &["status"]);
    assert_eq!(code, Some(0), "{told}");
    assert_eq!(free.metric("kindler_clusters_unselected").await, Some(0.0));
    run(&sql, "DELETE FROM clusters").await;
    let left = "SELECT count(*)::text FROM clusters";
    eventually(SOON, "all to go", || async {
        text(&sql, left).await == "0"
    })
    .await;
    host.assert_one_at_a_time();
}

#[tokio::test]
async fn the_silence_of_other_places_holds_back_no_repair() {
    let (database, a, b) = (migrated().await, Host::new(), Host::new());
    let (_at_a, _at_b) = (
        at(&database, &a, "host=a").await,
        at(&database, &b, "host=b").await,
    );
    let sql = database.connect().await;
    run(&sql, &labelled("one", r#"{"host": "a"}"#)).await;
    for n in 0..6 {
        run(&sql, &labelled(&format!("other-{n}"), r#"{"host": "b"}"#)).await;
    }
    let running = "SELECT count(*)::text FROM clusters WHERE actual_state = 'running'";
    eventually(SOON, "all to run", || async {
        text(&sql, running).await == "7"
    })
    .await;
    // Asked on host a, the clusters of host b would all be silent.
    a.set_world("one", None);
    eventually(SOON, "the repair", || async {
        a.started("one") == ["create", "create"]
    })
    .await;
    until(&sql, "one", "present running").await;
}

#[tokio::test]
async fn once_is_done_when_its_own_are() {
    let (database, host) = (migrated().await, Host::new());
    let sql = database.connect().await;
    run(&sql, &labelled("mine", r#"{"host": "a"}"#)).await;
    run(&sql, &labelled("theirs", r#"{"host": "b"}"#)).await;
    let once = |selector: &str| {
        let mut command = kindler(&database.url(), &host);
        crate::kit::daemon_settings(&mut command, &host);
        command.args(["once", "--selector", selector]);
        command.output().unwrap()
    };
    let ended = once("host=a");
    assert_eq!(ended.status.code(), Some(0), "{ended:?}");
    assert_eq!(state(&sql, "mine").await, "present running");
    assert_eq!(state(&sql, "theirs").await, "present unknown");
    assert_eq!(host.started("theirs"), Vec::<String>::new());
    let ended = once("a b");
    assert_eq!(ended.status.code(), Some(2), "{ended:?}");
    let told = String::from_utf8(ended.stderr).unwrap();
    assert!(
        told.contains(r#"selector: "a b" is not understood: use KEY=VALUE"#),
        "{told}"
    );
}
