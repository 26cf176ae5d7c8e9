//! Clusters of the host that a row did not make: the script driver does nothing to them until a
//! person, an import or a migration lets the row take them over.

use std::fs;

use super::rig;
use crate::kit::{Daemon, Database, Host, Sql, kindler_output, migrated};
use crate::schema::takeover::OLD_TABLE;

const AGAIN: &str = "UPDATE clusters SET retry_requested_at = clock_timestamp()";
const SHOWN: &str =
    "SELECT concat_ws(' | ', desired_state, actual_state, status_message) FROM clusters";

#[tokio::test]
async fn a_foreign_cluster_of_the_name_is_never_touched() {
    let rig = rig().await;
    rig.host.set_cluster("dev", Some("healthy"));
    rig.sql.declare("dev").await;
    rig.sql.wait_state("dev", "present failed").await;
    let shown = rig.sql.text(SHOWN).await;
    let by_hand = format!("{} -n dev -p k3d", rig.host.command("delete").display());
    for part in [
        "exists that this row did not make",
        "kindler adopt dev",
        &*by_hand,
    ] {
        assert!(shown.contains(part), "{shown}");
    }
    for state in ["healthy", "unhealthy", "stopped"] {
        rig.host.set_cluster("dev", Some(state));
        for desired in ["absent", "stopped", "present"] {
            rig.sql.desire("dev", desired).await;
            rig.sql.run(AGAIN).await;
            rig.daemon.full_passes(1).await;
            rig.sql
                .wait_state("dev", &format!("{desired} failed"))
                .await;
            assert_eq!(rig.host.cluster("dev").as_deref(), Some(state));
        }
    }
    assert_eq!(rig.host.started("dev"), Vec::<String>::new());
    // Once it is deleted by hand, the row makes its own.
    rig.host.set_cluster("dev", None);
    rig.sql.run(AGAIN).await;
    rig.sql.wait_state("dev", "present running").await;
    rig.sql.desire("dev", "absent").await;
    rig.sql.wait_state("dev", "gone").await;
    assert_eq!(rig.host.started("dev"), ["create", "delete"]);
}

#[tokio::test]
async fn a_person_lets_a_row_take_over_a_foreign_cluster() {
    let rig = rig().await;
    rig.host.set_cluster("dev", Some("healthy"));
    rig.sql.declare("dev").await;
    rig.sql.wait_state("dev", "present failed").await;
    let arguments = ["adopt", "dev", "--wait", "--timeout", "40s"];
    let (output, exit) = kindler_output(&rig.database.url(), &rig.host, &arguments);
    assert_eq!(exit, Some(0), "{output}");
    rig.sql.wait_state("dev", "present running").await;
    // The spec of the row is applied to it.
    assert_eq!(rig.host.started("dev"), ["create"]);
    rig.sql.desire("dev", "absent").await;
    rig.sql.wait_state("dev", "gone").await;
    assert_eq!(rig.host.cluster("dev"), None);
}

/// A row that is only observed, and then resumed, does not own what it saw.
#[tokio::test]
async fn a_paused_row_does_not_take_over_what_it_observes() {
    let rig = rig().await;
    rig.host.set_cluster("dev", Some("healthy"));
    rig.sql
        .run("INSERT INTO clusters (name, provider, paused) VALUES ('dev', 'k3d', true)")
        .await;
    rig.sql
        .wait_text("SELECT status_reason FROM clusters", "Paused")
        .await;
    rig.sql.run("UPDATE clusters SET paused = false").await;
    rig.sql.wait_state("dev", "present failed").await;
    assert_eq!(rig.host.started("dev"), Vec::<String>::new());
}

#[tokio::test]
async fn rows_of_a_migrated_table_take_over_their_clusters() {
    let (database, host) = (Database::create().await, Host::new());
    database.run(OLD_TABLE).await;
    for name in ["devops", "dev", "uat"] {
        host.set_cluster(name, Some("healthy"));
    }
    let database = database.migrate().await;
    let _daemon = Daemon::start(&database, &host).await;
    let sql = database.connect().await;
    for name in ["devops", "dev", "uat"] {
        sql.wait_state(name, "present running").await;
    }
    assert_eq!(host.started("devops"), Vec::<String>::new());
    sql.desire("uat", "absent").await;
    sql.wait_state("uat", "gone").await;
    assert_eq!(host.cluster("uat"), None);
    // A row that is declared later owns only what it makes.
    host.set_cluster("later", Some("healthy"));
    sql.declare("later").await;
    sql.wait_state("later", "present failed").await;
}

#[tokio::test]
async fn rows_of_an_imported_list_take_over_their_clusters() {
    let (database, host) = (migrated().await, Host::new());
    let list = "dev,kind,30081,19001,true,off,18091,18444,\n";
    fs::write(host.path().join("environments.csv"), list).unwrap();
    host.set_cluster("dev", Some("healthy"));
    let _daemon = Daemon::builder(&database.url(), &host)
        .set("KINDLER_SEED_CSV", "environments.csv")
        .start()
        .await;
    let sql = database.connect().await;
    sql.wait_state("dev", "present running").await;
    let by = "SELECT actor FROM cluster_events WHERE kind = 'adopt'";
    assert_eq!(sql.text(by).await, "seed");
}

/// A server may forget what it acknowledged, or be restored: the row says that nothing began.
#[tokio::test]
async fn a_cluster_that_the_row_forgot_is_its_own_by_its_log() {
    let rig = rig().await;
    rig.sql.declare("dev").await;
    rig.sql.wait_state("dev", "present running").await;
    let forget = "BEGIN; ALTER TABLE clusters DISABLE TRIGGER USER;
        UPDATE clusters SET actual_state = 'unknown', driver = NULL, last_healthy_at = NULL,
            observed_spec_hash = NULL, observed_generation = 0, next_check_at = NULL;
        ALTER TABLE clusters ENABLE TRIGGER USER; DELETE FROM cluster_steps; COMMIT";
    rig.sql.run(forget).await;
    rig.host.set_cluster("dev", Some("unhealthy"));
    rig.sql.wait_state("dev", "present running").await;
    assert_eq!(rig.host.started("dev"), ["create", "create"]);
}
