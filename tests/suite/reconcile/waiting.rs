//! A cluster that waits says for what: in list, get, the API and its tasks.

use serde_json::Value;

use crate::api::client::Client;
use crate::kit::{Daemon, Host, Sql, TIMEOUT, eventually, kindler_output, migrated};

#[tokio::test]
async fn queued_clusters_name_the_workers_and_their_positions() {
    let (database, host) = (migrated().await, Host::new());
    host.control(
        "create",
        "while [ -e \"$here/control/wait\" ]; do sleep 0.05; done",
    );
    host.control("wait", "");
    let daemon = Daemon::builder(&database.url(), &host)
        .set("KINDLER_CONCURRENCY", "2")
        .spawn();
    daemon.ready().await;
    let sql = database.connect().await;
    sql.declare_many("c", 5).await;
    let creating = "SELECT count(*)::text FROM clusters WHERE actual_state = 'creating'";
    sql.wait_text(creating, "2").await;
    let queued = "queued: 2 of 2 workers busy, position ";
    let list = eventually(TIMEOUT, "three queued clusters", || async {
        let (list, _) = kindler_output(&database.url(), &host, &["list"]);
        (list.matches(queued).count() == 3).then_some(list)
    })
    .await;
    for position in 1..=3 {
        assert_eq!(
            list.matches(&format!("{queued}{position}")).count(),
            1,
            "{list}"
        );
    }
    let name = list
        .lines()
        .find(|line| line.contains("position 3"))
        .unwrap();
    let name = name.split_whitespace().next().unwrap();
    let (get, _) = kindler_output(&database.url(), &host, &["get", name]);
    assert!(get.contains(&format!("{queued}3")), "{get}");
    let http = Client::to(daemon.port());
    let view = http
        .get(&format!("/api/clusters/{name}"))
        .await
        .is(200)
        .json();
    for field in ["waiting", "message"] {
        assert_eq!(view[field], format!("{queued}3"), "{view}");
    }
    let task = http
        .get(&format!("/api/tasks/reconcile-{name}"))
        .await
        .is(200)
        .json();
    assert_eq!(task["message"], format!("Cluster {name}: {queued}3"));
    // With free workers nothing is queued.
    host.release("wait");
    let running = "SELECT count(*)::text FROM clusters WHERE actual_state = 'running'";
    sql.wait_text(running, "5").await;
    let view = http
        .get(&format!("/api/clusters/{name}"))
        .await
        .is(200)
        .json();
    assert_eq!(view["waiting"], Value::Null, "{view}");
}
