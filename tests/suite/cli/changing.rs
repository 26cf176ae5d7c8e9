//! The commands that declare: what they write and print.

use super::rig::Fleet;
use crate::kit::Sql;

#[tokio::test]
async fn create_is_idempotent() {
    let fleet = Fleet::new().await;
    let result = fleet
        .run(&["create", "demo"])
        .await
        .exits(0)
        .stderr_has("next: kindler get demo");
    assert_eq!(
        result.out,
        "cluster demo declared: k3d, http 18080, https 18443\n"
    );
    let result = fleet.run(&["create", "demo"]).await.exits(0);
    assert_eq!(
        result.out,
        "cluster demo is already declared: k3d, http 18080, https 18443\n"
    );
    fleet
        .run(&["create", "demo", "-p", "k3d", "--http-port", "18080"])
        .await
        .exits(0);
    let actor: String = fleet
        .database
        .value("SELECT actor FROM cluster_events WHERE kind = 'declared'")
        .await;
    assert!(actor.starts_with("tester@"), "{actor}");
    assert_eq!(
        fleet
            .database
            .number("SELECT generation FROM clusters")
            .await,
        1
    );
}

#[tokio::test]
async fn create_with_other_values_names_them_and_fails() {
    let fleet = Fleet::new().await;
    fleet.run(&["create", "demo"]).await.exits(0);
    let args = "create demo -p kind --http-port 1 --subnet 10.9.0.0/16 --no-haproxy-route";
    let result = fleet
        .run(&args.split(' ').collect::<Vec<_>>())
        .await
        .exits(2);
    for field in [
        "provider is k3d, not kind",
        "http_port is 18080, not 1",
        "subnet is not set, not 10.9.0.0/16",
        "haproxy_route is true, not false",
    ] {
        assert!(result.err.contains(field), "{field}: {}", result.err);
    }
    assert_eq!(
        fleet
            .database
            .number("SELECT generation FROM clusters")
            .await,
        1
    );
}

#[tokio::test]
async fn every_flag_of_create_reaches_its_column() {
    let fleet = Fleet::new().await;
    let args = "create demo --provider kind --subnet 10.9.0.0/16 --node-port 1 --pf-port 2 \
                --http-port 3 --https-port 4 --no-register-portainer --no-haproxy-route \
                --no-register-argocd";
    fleet
        .run(&args.split_whitespace().collect::<Vec<_>>())
        .await
        .exits(0);
    let row: String = fleet
        .database
        .value(
            "SELECT concat_ws(' ', provider, subnet, node_port, pf_port, http_port, https_port, \
             register_portainer, haproxy_route, register_argocd) FROM clusters",
        )
        .await;
    assert_eq!(row, "kind 10.9.0.0/16 1 2 3 4 f f f");
}

#[tokio::test]
async fn a_given_port_is_not_chosen_for_another_field() {
    let fleet = Fleet::new().await;
    for (name, flag, port, found) in [
        ("a", "--http-port", "18443", "19000 18443 18444"),
        ("b", "--http-port", "19002", "19001 19002 18445"),
        ("c", "--https-port", "18090", "19002 18080 18090"),
    ] {
        fleet.run(&["create", name, flag, port]).await.exits(0);
        let row =
            "SELECT concat_ws(' ', pf_port, http_port, https_port) FROM clusters WHERE name = ";
        let row = fleet.database.text(&format!("{row}'{name}'")).await;
        assert_eq!(row, found, "{name}");
    }
}

#[tokio::test]
async fn create_warns_of_a_port_that_another_cluster_declares() {
    let fleet = Fleet::new().await;
    fleet.run(&["create", "a"]).await.exits(0);
    let made = fleet.run(&["create", "b"]).await.exits(0);
    assert!(!made.err.contains("warning"), "{}", made.err);
    let flags = [
        "create",
        "c",
        "--http-port",
        "18443",
        "--https-port",
        "18500",
    ];
    fleet.run(&flags).await.exits(0).stderr_has(
        "warning: http_port 18443 of cluster c is also declared by cluster a: both cannot run on \
         one host; next: UPDATE clusters SET http_port = DEFAULT WHERE name = 'c';",
    );
}

#[tokio::test]
async fn create_declares_an_absent_cluster_present() {
    let fleet = Fleet::new().await;
    fleet.run(&["create", "demo"]).await.exits(0);
    for was in ["absent", "stopped"] {
        let declare = format!("UPDATE clusters SET desired_state = '{was}'");
        fleet.database.run(&declare).await;
        let result = fleet.run(&["create", "demo"]).await.exits(0);
        assert_eq!(
            result.out,
            format!("cluster demo is declared present again; it was {was}\n")
        );
        assert_eq!(fleet.desired("demo").await, "present");
    }
}

#[tokio::test]
async fn stop_start_and_delete_declare_a_state() {
    let fleet = Fleet::new().await;
    fleet.run(&["create", "demo"]).await.exits(0);
    for (command, desired, was) in [
        ("stop", "stopped", "present"),
        ("start", "present", "stopped"),
        ("delete", "absent", "present"),
    ] {
        let result = fleet.run(&[command, "demo"]).await.exits(0);
        assert_eq!(
            result.out,
            format!("cluster demo is declared {desired}; it was {was}\n")
        );
        assert_eq!(fleet.desired("demo").await, desired);
        let result = fleet.run(&[command, "demo"]).await.exits(0);
        assert_eq!(
            result.out,
            format!("cluster demo is already declared {desired}\n")
        );
    }
}

#[tokio::test]
async fn pause_resume_and_retry_change_nothing_else() {
    let fleet = Fleet::new().await;
    fleet.run(&["create", "demo"]).await.exits(0);
    fleet
        .run(&["pause", "demo"])
        .await
        .exits(0)
        .stderr_has("next: kindler resume demo");
    assert!(
        fleet
            .database
            .value::<bool>("SELECT paused FROM clusters")
            .await
    );
    fleet
        .run(&["stop", "demo"])
        .await
        .exits(0)
        .stderr_has("it is paused");
    fleet.run(&["resume", "demo"]).await.exits(0);
    assert!(
        !fleet
            .database
            .value::<bool>("SELECT paused FROM clusters")
            .await
    );
    fleet
        .status(
            "demo",
            "failed_attempts = 3, next_attempt_at = now() + interval '1 h'",
        )
        .await;
    let result = fleet.run(&["retry", "demo"]).await.exits(0);
    assert_eq!(result.out, "cluster demo is retried at once\n");
    let waits = "SELECT failed_attempts = 0 AND next_attempt_at IS NULL FROM clusters";
    assert!(fleet.database.value::<bool>(waits).await);
}
