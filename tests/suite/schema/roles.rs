//! Least privilege: the daemon cannot write declarations, the API cannot write status,
//! and both can do their work.

use std::time::Duration;

use kindler::clusters::observation::Observation;
use kindler::clusters::plan::{Decision, Moment, Policy, plan};
use kindler::core::database::Database as Url;
use kindler::core::rows::{Claim, Written};
use kindler::store::Store;
use tokio_postgres::Client;

use super::claims::Claims;
use super::migrated;
use crate::kit::{Database, Host, Sql, kindler};

const ROLES: &str = include_str!("../../../sql/roles.sql");

/// A login role that is a member of `role`. Roles belong to the server, so each test
/// creates its own.
async fn login(database: &Database, admin: &Client, role: &str) -> String {
    let user = format!("{role}_{}", database.name());
    admin.run(ROLES).await;
    admin.run(ROLES).await;
    admin
        .run(&format!("CREATE ROLE \"{user}\" LOGIN IN ROLE {role}"))
        .await;
    user
}

#[tokio::test]
async fn the_daemon_writes_status_and_cannot_declare() {
    let (database, admin) = migrated().await;
    let user = login(&database, &admin, "kindler_daemon").await;
    admin.declare("dev").await;
    let daemon = database.connect_as(&user).await;
    for forbidden in [
        "INSERT INTO clusters (name, provider) VALUES ('x', 'k3d')",
        "UPDATE clusters SET desired_state = 'absent'",
        "UPDATE clusters SET http_port = 1",
        "UPDATE clusters SET paused = true",
        "UPDATE clusters SET protected = false",
        "DELETE FROM clusters",
        "INSERT INTO cluster_events (cluster_name, kind, actor, generation) VALUES ('x', 'health', 'x', 1)",
        "DROP TABLE clusters",
        "DELETE FROM cluster_deletions",
        "UPDATE cluster_deletions SET begun_at = '-infinity'",
    ] {
        let message = daemon.refused(forbidden).await;
        assert!(
            message.contains("denied") || message.contains("must be owner"),
            "{forbidden}: {message}"
        );
    }

    let store = Store::new(&Url::parse(&database.url_as(&user)).unwrap(), 2, "test");
    let store = store.selecting(&"host!=b".parse().unwrap());
    store.check().await.unwrap();
    let Claim::Won(claimed) = store
        .claim("dev", "me", Duration::from_secs(15))
        .await
        .unwrap()
    else {
        panic!("it is due and free")
    };
    let row = claimed.row.readable().unwrap();
    assert!(
        store
            .claims()
            .renew(&claimed.lease, Duration::from_secs(15))
            .await
            .unwrap()
            .is_some()
    );
    assert_eq!(
        store.claims().due(Duration::ZERO, 10).await.unwrap(),
        [],
        "it is held"
    );
    admin
        .run("UPDATE clusters SET desired_state = 'absent'")
        .await;
    assert!(
        !store
            .claims()
            .remove(&claimed.lease, row.generation)
            .await
            .unwrap(),
        "the generation is another"
    );
    let (row, _) = store
        .claims()
        .renew(&claimed.lease, Duration::from_secs(15))
        .await
        .unwrap()
        .unwrap();
    let moment = Moment {
        now: row.read_at,
        jitter: 0.0,
    };
    let seen = Observation::HEALTHY;
    let Decision::Act { intent, .. } = plan(&row.object, Some(&seen), &Policy::default(), moment)
    else {
        panic!("it is to be deleted")
    };
    let begun = store
        .begin_deletion(&claimed.lease, &row, (&[], &[]), |_| intent)
        .await;
    let Written::Yes(row) = begun.unwrap() else {
        panic!("the owner writes")
    };
    assert!(
        store
            .claims()
            .remove(&claimed.lease, row.generation)
            .await
            .unwrap()
    );
    store.channels().await.unwrap();
}

#[tokio::test]
async fn the_api_declares_and_cannot_write_status() {
    let (database, admin) = migrated().await;
    let user = login(&database, &admin, "kindler_api").await;
    let api = database.connect_as(&user).await;
    api.declare("dev").await;
    api.run("UPDATE clusters SET http_port = 18099, desired_state = 'stopped'")
        .await;
    api.run("UPDATE clusters SET retry_requested_at = now()")
        .await;
    for forbidden in [
        "UPDATE clusters SET actual_state = 'running'",
        "UPDATE clusters SET placed_by = 'host=a'",
        "INSERT INTO clusters (name, provider, placed_by) VALUES ('x', 'k3d', 'host=a')",
        "UPDATE clusters SET observed_generation = 5",
        "UPDATE clusters SET protected = false",
        "DELETE FROM clusters",
        "DELETE FROM cluster_leases",
        "DELETE FROM cluster_events",
    ] {
        let message = api.refused(forbidden).await;
        assert!(message.contains("denied"), "{forbidden}: {message}");
    }
    let events = "SELECT count(*) FROM cluster_events WHERE actor = session_user";
    assert_eq!(api.number(events).await, 3);
}

#[tokio::test]
async fn the_reader_can_only_read() {
    let (database, admin) = migrated().await;
    let user = login(&database, &admin, "kindler_reader").await;
    let reader = database.connect_as(&user).await;
    for table in [
        "clusters",
        "cluster_leases",
        "cluster_events",
        "cluster_revisions",
        "cluster_deletions",
        "kindler_replicas",
    ] {
        reader
            .number(&format!("SELECT count(*) FROM {table}"))
            .await;
        let message = reader.refused(&format!("DELETE FROM {table}")).await;
        assert!(message.contains("denied"), "{table}: {message}");
    }
}

#[tokio::test]
async fn the_login_that_migrated_still_owns_the_tables() {
    let (database, admin) = migrated().await;
    let user = format!("former_owner_{}", database.name());
    admin
        .run(&format!(
            "CREATE ROLE \"{user}\" LOGIN; ALTER TABLE clusters OWNER TO \"{user}\""
        ))
        .await;
    admin.run(ROLES).await;
    admin.run(ROLES).await;
    let owner = database.connect_as(&user).await;
    owner
        .run("ALTER TABLE clusters ADD COLUMN owned boolean")
        .await;
    owner.declare("dev").await;
    let token = "INSERT INTO kindler_tokens (name, hash, scope) VALUES ('x', sha256('x'), 'admin')";
    owner.run(token).await;
}

#[tokio::test]
async fn a_login_without_the_right_is_told_the_role() {
    let (database, admin) = migrated().await;
    let user = login(&database, &admin, "kindler_daemon").await;
    let create = ["create", "dev", "--provider", "k3d"];
    let host = Host::new();
    let mut command = kindler(&database.url_as(&user), &host);
    let ended = tokio::task::spawn_blocking(move || command.args(create).output().unwrap());
    let ended = ended.await.unwrap();
    let error = String::from_utf8_lossy(&ended.stderr);
    assert!(error.contains("role kindler_api"), "{error}");
    assert_eq!(ended.status.code(), Some(1));
}

#[tokio::test]
async fn existing_roles_get_rights_on_later_tables() {
    let (database, admin) = migrated().await;
    let user = login(&database, &admin, "kindler_daemon").await;
    admin
        .run(
            "DROP TABLE cluster_deletions, kindler_watchers, kindler_sessions, kindler_tokens;
             ALTER TABLE clusters DROP COLUMN placed_by CASCADE;
             DELETE FROM kindler_migrations WHERE version >= 4",
        )
        .await;
    super::run_migration(&database).await;
    let daemon = database.connect_as(&user).await;
    let count = "INSERT INTO cluster_deletions (cluster_name, generation) VALUES ('x', 1)";
    daemon.run(count).await;
    let message = daemon.refused("DELETE FROM cluster_deletions").await;
    assert!(message.contains("denied"), "{message}");
    let watch = "INSERT INTO kindler_watchers (owner, until) VALUES ('x', now())";
    daemon.run(watch).await;
    let may_place = "SELECT has_column_privilege('clusters', 'placed_by', 'UPDATE')::int::bigint";
    assert_eq!(daemon.number(may_place).await, 1);
    daemon.number("SELECT count(*) FROM kindler_tokens").await;
    let made = "INSERT INTO kindler_tokens (name, hash, scope) VALUES ('x', sha256('x'), 'admin')";
    let message = daemon.refused(made).await;
    assert!(message.contains("denied"), "{message}");
}
