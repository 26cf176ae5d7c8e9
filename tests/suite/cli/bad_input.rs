//! What no door lets in, the command line and SQL refuse in the same words,
//! and nothing is half written.

use kindler::store::SCHEMA_VERSION;

use super::rig::{Fleet, Home};

/// A value, as a flag and as a column.
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
async fn the_command_line_and_sql_refuse_the_same_in_the_same_words() {
    let fleet = Fleet::new().await;
    let client = fleet.database.connect().await;
    for bad in BAD {
        let insert = format!(
            "INSERT INTO clusters ({}) VALUES ({})",
            bad.columns, bad.values
        );
        let refused = client.batch_execute(&insert).await.expect_err(&insert);
        let words = refused
            .as_db_error()
            .expect("words of the server")
            .message();
        let said = fleet
            .run(&[&["create"], bad.args].concat())
            .await
            .ends(2)
            .complains(words);
        assert!(said.out.is_empty(), "{said:?}");
    }
    assert_eq!(
        fleet
            .database
            .value::<i64>("SELECT count(*) FROM clusters")
            .await,
        0
    );
}

#[tokio::test]
async fn values_that_sql_has_no_words_for_name_their_field_too() {
    let home = Home::new();
    for (args, told) in [
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
        home.run(&args).await.ends(2).complains(told);
    }
}

#[tokio::test]
async fn the_management_cluster_is_never_declared() {
    let fleet = Fleet::new().await;
    fleet
        .run(&["create", "devops"])
        .await
        .ends(2)
        .complains("management cluster");
    fleet
        .database
        .execute("INSERT INTO clusters (name, provider) VALUES ('devops', 'k3d')")
        .await;
    fleet
        .run(&["delete", "devops"])
        .await
        .ends(2)
        .complains("cluster devops is protected");
    fleet
        .run(&["stop", "devops"])
        .await
        .ends(2)
        .complains("cluster devops is protected");
    assert_eq!(fleet.desired("devops").await, "present");
}

#[tokio::test]
async fn an_unknown_name_is_told_with_the_one_that_was_meant() {
    let fleet = Fleet::new().await;
    fleet.run(&["create", "demo"]).await.ends(0);
    for command in [
        "get", "delete", "start", "stop", "pause", "resume", "retry", "events", "logs",
    ] {
        fleet
            .run(&[command, "dmeo"])
            .await
            .ends(2)
            .complains("error: no cluster is named dmeo\nhint: did you mean demo?");
    }
}

#[tokio::test]
async fn a_database_that_was_not_migrated_says_what_to_run() {
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
            .ends(2)
            .complains("run `kindler migrate`");
    }
    let said = home.run(&["migrate"]).await.ends(0);
    let all: Vec<_> = (1..=SCHEMA_VERSION).map(|step| step.to_string()).collect();
    let schema = format!("schema public is at version {SCHEMA_VERSION}");
    assert_eq!(said.out, format!("{schema} (applied {})\n", all.join(", ")));
    let said = home.run(&["migrate"]).await.ends(0);
    assert_eq!(said.out, format!("{schema} already\n"));
}

#[tokio::test]
async fn what_a_role_may_not_do_is_a_failure_with_the_servers_words() {
    let fleet = Fleet::new().await;
    fleet.run(&["create", "demo"]).await.ends(0);
    let reader = format!("reader_of_{}", fleet.database.name());
    fleet
        .database
        .execute(&format!(
            "CREATE ROLE {reader} LOGIN; GRANT SELECT ON clusters, cluster_events TO {reader}"
        ))
        .await;
    let home = Home::new().with("DATABASE_URL", fleet.database.url_as(&reader));
    home.run(&["list"]).await.ends(0);
    let said = home.run(&["stop", "demo"]).await.ends(1);
    assert!(
        said.err
            .ends_with("the database role may not do this: permission denied for table clusters\n"),
        "{said:?}"
    );
    assert_eq!(said.err.matches("permission denied").count(), 1, "{said:?}");
    let away = format!("DROP OWNED BY {reader}; DROP ROLE {reader}");
    fleet.database.execute(&away).await;
}
