//! Invalid input: the command line and SQL reject it with the same message, and
//! write nothing.

use kindler::store::SCHEMA_VERSION;

use super::rig::{Fleet, Home};
use crate::kit::Sql;

/// An invalid value, as flags and as columns.
struct Bad {
    args: &'static [&'static str],
    columns: &'static str,
    values: &'static str,
}

const BAD: [Bad; 11] = [
    Bad {
        args: &["Bad_Name"],
        columns: "name, provider",
        values: "'Bad_Name', 'k3d'",
    },
    Bad {
        args: &["-p", "kind", "a-"],
        columns: "name, provider",
        values: "'a-', 'kind'",
    },
    Bad {
        args: &["a2345678901234567890123456789012x"],
        columns: "name, provider",
        values: "'a2345678901234567890123456789012x', 'k3d'",
    },
    Bad {
        args: &["x", "-p", "minikube"],
        columns: "name, provider",
        values: "'x', 'minikube'",
    },
    Bad {
        args: &["x", "--http-port", "70000"],
        columns: "name, provider, http_port",
        values: "'x', 'k3d', 70000",
    },
    Bad {
        args: &["x", "--node-port=-1"],
        columns: "name, provider, node_port",
        values: "'x', 'k3d', -1",
    },
    Bad {
        args: &["x", "--pf-port", "0"],
        columns: "name, provider, pf_port",
        values: "'x', 'k3d', 0",
    },
    Bad {
        args: &["x", "--http-port", "18200", "--https-port", "18200"],
        columns: "name, provider, http_port, https_port",
        values: "'x', 'k3d', 18200, 18200",
    },
    Bad {
        args: &["x", "--pf-port", "18200", "--http-port", "18200"],
        columns: "name, provider, pf_port, http_port",
        values: "'x', 'k3d', 18200, 18200",
    },
    Bad {
        args: &["x", "--pf-port", "18200", "--https-port", "18200"],
        columns: "name, provider, pf_port, https_port",
        values: "'x', 'k3d', 18200, 18200",
    },
    Bad {
        args: &["x", "--subnet", "10.0.0.0/30"],
        columns: "name, provider, subnet",
        values: "'x', 'k3d', '10.0.0.0/30'",
    },
];

#[tokio::test]
async fn cli_and_sql_have_the_same_error_messages() {
    let fleet = Fleet::new().await;
    let client = fleet.database.connect().await;
    for bad in BAD {
        let insert = format!(
            "INSERT INTO clusters ({}) VALUES ({})",
            bad.columns, bad.values
        );
        let message = client.refused(&insert).await;
        let result = fleet
            .run(&[&["create"], bad.args].concat())
            .await
            .exits(2)
            .stderr_has(&message);
        assert!(result.out.is_empty(), "{result:?}");
    }
    assert_eq!(
        fleet.database.number("SELECT count(*) FROM clusters").await,
        0
    );
}

#[tokio::test]
async fn errors_of_flags_name_their_field() {
    let home = Home::new();
    for (args, message) in [
        (
            vec!["create", "x", "--http-port", "many"],
            "http_port many is out of range: use 1 to 65535",
        ),
        (
            vec!["create", "x", "--subnet", "10.0.0.1/16"],
            "subnet \"10.0.0.1/16\" is not valid",
        ),
        (
            vec!["create", "x", "--subnet", "2001:db8::/32"],
            "subnet \"2001:db8::/32\" is not valid",
        ),
        (
            vec!["create", "x", "--wait", "--timeout", "5"],
            "timeout \"5\" is not a duration",
        ),
        (
            vec!["create", "x", "--wait", "--timeout", "0s"],
            "timeout 0s is out of range: use 1s to 1d",
        ),
        (vec!["create", "x", "--timeout", "5s"], "--wait"),
        (vec!["create", ""], "name \"\" is not valid"),
        (vec!["create"], "<NAME>"),
        (
            vec!["events", "x", "-n", "0"],
            "lines 0 is out of range: use 1 to 10000",
        ),
        (
            vec!["list", "-o", "yaml"],
            "[possible values: table, wide, json]",
        ),
        (vec!["destroy", "x"], "unrecognized subcommand 'destroy'"),
        (vec!["lst"], "list"),
    ] {
        home.run(&args).await.exits(2).stderr_has(message);
    }
}

#[tokio::test]
async fn the_management_cluster_cannot_be_declared() {
    let fleet = Fleet::new().await;
    fleet
        .run(&["create", "devops"])
        .await
        .exits(2)
        .stderr_has("management cluster");
    fleet.database.declare("devops").await;
    fleet
        .run(&["delete", "devops"])
        .await
        .exits(2)
        .stderr_has("cluster devops is protected");
    fleet
        .run(&["stop", "devops"])
        .await
        .exits(2)
        .stderr_has("cluster devops is protected");
    assert_eq!(fleet.desired("devops").await, "present");
}

#[tokio::test]
async fn an_unknown_name_suggests_a_similar_one() {
    let fleet = Fleet::new().await;
    fleet.run(&["create", "demo"]).await.exits(0);
    for command in [
        "get", "delete", "start", "stop", "pause", "resume", "retry", "events", "logs",
    ] {
        fleet
            .run(&[command, "dmeo"])
            .await
            .exits(2)
            .stderr_has("error: no cluster is named dmeo\nhint: did you mean demo?");
    }
}

#[tokio::test]
async fn an_unmigrated_database_names_the_command() {
    let database = crate::kit::Database::create().await;
    let home = Home::new().with("DATABASE_URL", database.url());
    for command in [
        &["list"][..],
        &["create", "x"],
        &["status"],
        &["events", "x"],
    ] {
        home.run(command)
            .await
            .exits(2)
            .stderr_has("run `kindler migrate`");
    }
    let result = home.run(&["migrate"]).await.exits(0);
    let all: Vec<_> = (1..=SCHEMA_VERSION).map(|step| step.to_string()).collect();
    let schema = format!("schema public is at version {SCHEMA_VERSION}");
    assert_eq!(
        result.out,
        format!("{schema} (applied {})\n", all.join(", "))
    );
    let result = home.run(&["migrate"]).await.exits(0);
    assert_eq!(result.out, format!("{schema} already\n"));
}

#[tokio::test]
async fn a_missing_privilege_shows_the_server_message() {
    let fleet = Fleet::new().await;
    fleet.run(&["create", "demo"]).await.exits(0);
    let reader = format!("reader_of_{}", fleet.database.name());
    fleet
        .database
        .run(&format!(
            "CREATE ROLE {reader} LOGIN; GRANT SELECT ON clusters, cluster_events TO {reader}"
        ))
        .await;
    let home = Home::new().with("DATABASE_URL", fleet.database.url_as(&reader));
    home.run(&["list"]).await.exits(0);
    let result = home.run(&["stop", "demo"]).await.exits(1);
    assert!(
        result
            .err
            .contains("the database role may not do this: permission denied for table clusters\n"),
        "{result:?}"
    );
    assert_eq!(
        result.err.matches("permission denied").count(),
        1,
        "{result:?}"
    );
    let result = home.run(&["migrate"]).await.exits(1);
    assert!(
        result.err.contains("hint: use the login that"),
        "{result:?}"
    );
    let told = result.err.matches("permission denied").count();
    assert_eq!(told, 1, "{result:?}");
    let away = format!("DROP OWNED BY {reader}; DROP ROLE {reader}");
    fleet.database.run(&away).await;
}

#[tokio::test]
async fn a_lock_timeout_names_the_session_that_holds_the_lock() {
    let fleet = Fleet::new().await;
    fleet.run(&["create", "demo"]).await.exits(0);
    let holder = fleet.database.connect().await;
    holder
        .run("SET application_name = 'backfill'; BEGIN; LOCK TABLE clusters IN SHARE MODE")
        .await;
    let pid = holder.text("SELECT pg_backend_pid()::text").await;
    fleet
        .run(&["pause", "demo"])
        .await
        .exits(1)
        .stderr_has(&format!("blocked by pid {pid} (user "))
        .stderr_has("application backfill")
        .stderr_has("to end a session: SELECT pg_terminate_backend(PID)");
}

#[tokio::test]
async fn too_many_connections_say_so_and_what_to_do() {
    let fleet = Fleet::new().await;
    let role = format!("narrow_{}", fleet.database.name());
    fleet
        .database
        .run(&format!("CREATE ROLE {role} LOGIN CONNECTION LIMIT 0"))
        .await;
    let home = Home::new().with("KINDLER_DATABASE_URL", fleet.database.url_as(&role));
    home.run(&["list"])
        .await
        .exits(2)
        .stderr_has("too many connections: close idle sessions")
        .stderr_has("too many connections for role");
    fleet.database.run(&format!("DROP ROLE {role}")).await;
}
