//! The output of `list`, `get` and `events`, for any window and for programs.

use serde_json::Value;

use super::rig::{Fleet, Home};
use crate::kit::Sql;

const ERROR: &str = "/opt/create_env.sh exited with code 1\nlast lines:\nno space left on device";

/// Four clusters: running, failed, paused, and the management cluster.
async fn fleet() -> Fleet {
    let fleet = Fleet::new().await;
    for name in ["runs", "fails", "rests"] {
        fleet.run(&["create", name]).await.exits(0);
    }
    fleet
        .database
        .run("INSERT INTO clusters (name, provider) VALUES ('devops', 'kind')")
        .await;
    fleet.reached("runs", "running").await;
    fleet.run(&["pause", "rests"]).await.exits(0);
    let failed = format!(
        "actual_state = 'failed', failed_attempts = 3, next_attempt_at = now() + interval '50 s', \
         status_reason = 'CreateFailed', status_message = '/opt/create_env.sh exited with code 1', \
         reconcile_error = '{ERROR}'"
    );
    fleet.status("fails", &failed).await;
    fleet
}

fn row<'a>(table: &'a str, name: &str) -> &'a str {
    let found = table.lines().find(|line| line.starts_with(name));
    found.unwrap_or_else(|| panic!("no {name} in\n{table}"))
}

#[tokio::test]
async fn list_shows_desired_state_state_and_reason() {
    let fleet = fleet().await;
    let table = fleet.run(&["list"]).await.exits(0).out;
    let header: Vec<_> = table.lines().next().unwrap().split_whitespace().collect();
    assert_eq!(
        header,
        [
            "NAME", "PROVIDER", "DESIRED", "STATE", "MESSAGE", "AGE", "FAILURES", "NEXT"
        ]
    );
    let fails = row(&table, "fails");
    assert!(
        fails.contains("failed") && fails.contains("exited with code 1"),
        "{fails}"
    );
    assert!(fails.contains(" 3 ") && fails.contains("in 4"), "{fails}");
    assert!(row(&table, "devops").contains("protected"), "{table}");
    assert!(row(&table, "rests").contains("paused"), "{table}");
    assert!(row(&table, "runs").contains("running"), "{table}");
    assert!(!table.contains('\x1b'), "colour without a terminal");
    let wide = fleet.run(&["list", "-o", "wide"]).await.exits(0).out;
    assert!(wide.contains("GENERATION") && row(&wide, "runs").contains("30080,19000,18080,18443"));
}

#[tokio::test]
async fn list_fits_any_width() {
    let fleet = fleet().await;
    for width in [1, 5, 20, 40, 60, 80, 200] {
        let home = Home::new()
            .with("DATABASE_URL", fleet.database.url())
            .with("COLUMNS", width.to_string());
        for output in ["table", "wide"] {
            let table = home.run(&["list", "-o", output]).await.exits(0).out;
            let longest = table
                .lines()
                .map(|line| line.chars().count())
                .max()
                .unwrap();
            if width >= 20 {
                assert!(longest <= width, "{width}:\n{table}");
            }
            if width >= 60 {
                let fails = row(&table, "fails");
                assert!(
                    fails.contains("failed") && fails.contains("create_env"),
                    "{table}"
                );
            }
        }
    }
}

#[tokio::test]
async fn json_has_the_column_names() {
    let fleet = fleet().await;
    let list = fleet.run(&["list", "-o", "json"]).await.exits(0).json();
    let list = list.as_array().expect("an array");
    assert_eq!(list.len(), 4);
    let fails = list.iter().find(|row| row["name"] == "fails").unwrap();
    for (field, value) in [
        ("provider", Value::from("k3d")),
        ("desired_state", "present".into()),
        ("actual_state", "failed".into()),
        ("failed_attempts", 3.into()),
        ("reconcile_error", ERROR.into()),
        ("status_reason", "CreateFailed".into()),
        ("node_port", 30080.into()),
        ("paused", false.into()),
        ("generation", 1.into()),
        ("subnet", Value::Null),
    ] {
        assert_eq!(fails[field], value, "{field}");
    }
    assert!(fails["next_attempt_at"].as_str().unwrap().ends_with('Z'));
    let mut get = fleet
        .run(&["get", "fails", "-o", "json"])
        .await
        .exits(0)
        .json();
    let steps = get.as_object_mut().unwrap().remove("steps");
    assert_eq!(steps, Some(Value::Array(Vec::new())));
    assert_eq!(get, *fails);
}

#[tokio::test]
async fn an_empty_list_has_a_hint_on_stderr() {
    let fleet = Fleet::new().await;
    let result = fleet
        .run(&["list"])
        .await
        .exits(0)
        .stderr_has("kindler create demo");
    assert_eq!((result.out.as_str(), result.err.lines().count()), ("", 1));
    let result = fleet.run(&["list", "-o", "json"]).await.exits(0);
    assert_eq!((result.out.as_str(), result.err.as_str()), ("[]\n", ""));
}

#[tokio::test]
async fn an_undecodable_row_is_shown_with_its_error() {
    let fleet = fleet().await;
    fleet
        .force(
            "ALTER TABLE clusters DROP CONSTRAINT clusters_http_port_1_to_65535; \
             UPDATE clusters SET http_port = 0 WHERE name = 'runs'",
        )
        .await;
    let table = fleet.run(&["list"]).await.exits(0).out;
    let broken = row(&table, "runs");
    assert!(broken.contains("unreadable"), "{broken}");
    assert!(
        broken.contains("http_port 0 is out of range: use 1 to 65535"),
        "{broken}"
    );
    assert!(row(&table, "fails").contains("failed"));
    let list = fleet.run(&["list", "-o", "json"]).await.exits(0).json();
    let broken = list
        .as_array()
        .unwrap()
        .iter()
        .find(|row| row["name"] == "runs")
        .unwrap();
    assert_eq!(
        broken["unreadable"],
        "http_port 0 is out of range: use 1 to 65535; \
         to mend it: UPDATE clusters SET http_port = DEFAULT WHERE name = 'runs'"
    );
    fleet
        .run(&["get", "runs"])
        .await
        .exits(1)
        .stderr_has("http_port 0 is out of range");
}

#[tokio::test]
async fn untrusted_texts_cannot_control_the_terminal() {
    let fleet = fleet().await;
    fleet
        .status(
            "runs",
            "status_message = E'\\x1b[2Jgone\\x07', status_reason = 'x'",
        )
        .await;
    for args in [&["list"][..], &["get", "runs"], &["events", "runs"]] {
        let result = fleet.run(args).await.exits(0);
        assert!(
            !result.out.contains('\x1b') && !result.out.contains('\x07'),
            "{result:?}"
        );
    }
}

#[tokio::test]
async fn get_shows_one_cluster_in_full() {
    let fleet = fleet().await;
    fleet.home.write("state/logs/fails.log", "x\n");
    let text = fleet.run(&["get", "fails"]).await.exits(0).out;
    for part in [
        "state         failed",
        "3 attempts in a row\n",
        "next attempt  in ",
        "k3d, context k3d-fails",
        "state/logs/fails.log",
        "  no space left on device",
    ] {
        assert!(text.contains(part), "{part:?} in\n{text}");
    }
}

#[tokio::test]
async fn events_name_actors_and_survive_a_removal() {
    let fleet = fleet().await;
    fleet.run(&["stop", "fails"]).await.exits(0);
    let text = fleet.run(&["events", "fails"]).await.exits(0).out;
    assert!(
        text.contains("unknown -> failed  CreateFailed: /opt/create_env.sh"),
        "{text}"
    );
    assert!(
        text.contains("(attempt 3)") && text.contains("    no space left on device"),
        "{text}"
    );
    assert!(
        text.contains("desired_state present -> stopped  by tester@"),
        "{text}"
    );
    let last = fleet
        .run(&["events", "fails", "-n", "1", "-o", "json"])
        .await
        .exits(0)
        .json();
    assert_eq!(last.as_array().unwrap().len(), 1);
    assert_eq!(last[0]["kind"], "changed");
    assert_eq!(
        last[0]["change"]["desired_state"],
        serde_json::json!(["present", "stopped"])
    );
    fleet
        .force("DELETE FROM clusters WHERE name = 'fails'")
        .await;
    let text = fleet.run(&["events", "fails"]).await.exits(0).out;
    assert!(text.contains("declared"), "{text}");
}
