//! The steps of a cluster in the API, with the real driver, and the progress of
//! tasks.

use serde_json::{Value, json};

use super::socket::Socket;
use super::{SOON, Site, quiet_site, site, site_with};
use crate::kit::{Sql, claim_port, eventually};

const STEPS: &str = "/api/clusters/dev/steps";
const FIELDS: [&str; 13] = [
    "driver",
    "name",
    "position",
    "total",
    "version",
    "required",
    "state",
    "attempt",
    "reason",
    "message",
    "started_at",
    "finished_at",
    "next_try_at",
];

/// A daemon with the sandbox driver, in which the clusters `fail` fail.
async fn sandbox(fail: &str, create_delay: &str) -> Site {
    site_with(|daemon| {
        daemon
            .set("KINDLER_DRIVER", "sandbox")
            .set("KINDLER_SANDBOX_FAIL", fail)
            .set("KINDLER_SANDBOX_CREATE_DELAY", create_delay)
            .set("KINDLER_BACKOFF_INITIAL", "60s")
            .set("KINDLER_BACKOFF_MAX", "60s")
    })
    .await
}

/// Declares `dev` on a port that no other test uses.
async fn declare(site: &Site) -> crate::kit::ClaimedPort {
    let port = claim_port();
    let body = json!({ "name": "dev", "provider": "k3d", "http_port": port.number });
    site.http.post("/api/clusters", body).await.is(202);
    port
}

async fn steps(site: &Site) -> Vec<Value> {
    let steps = site.http.get(STEPS).await.is(200).json();
    steps.as_array().expect("an array").clone()
}

fn states(steps: &[Value]) -> Vec<String> {
    let state = |step: &Value| format!("{} {}", step["name"], step["state"]).replace('"', "");
    steps.iter().map(state).collect()
}

/// Writes a step of `dev` as a reconciler with several steps would.
fn step(name: &str, position: u32, state: &str) -> String {
    let ended = match state {
        "running" | "removing" => "NULL",
        _ => "now()",
    };
    format!(
        "INSERT INTO cluster_steps (uid, driver, name, position, total, version, required, state, attempt, \
             reason, message, input_hash, started_at, finished_at) \
         SELECT uid, 'native', '{name}', {position}, 5, 1, true, '{state}', 1, 'Applied', 'as a test', 'hash', \
             now() + interval '{position} s', {ended} FROM clusters WHERE name = 'dev';"
    )
}

#[tokio::test]
async fn steps_are_shown_in_order() {
    let site = sandbox("", "0s").await;
    site.http.get(STEPS).await.is(404);
    let _port = declare(&site).await;
    let cluster = site.until("dev", "actual_state", "running").await;
    let steps = steps(&site).await;
    assert_eq!(
        states(&steps),
        [
            "folder done",
            "port done",
            "process done",
            "ready done",
            "about done"
        ]
    );
    for (at, step) in steps.iter().enumerate() {
        let mut names: Vec<_> = step.as_object().unwrap().keys().collect();
        names.sort_unstable();
        let mut expected = FIELDS.to_vec();
        expected.sort_unstable();
        assert_eq!(names, expected);
        assert_eq!(
            (&step["driver"], &step["total"]),
            (&json!("sandbox"), &json!(5))
        );
        assert_eq!(step["position"], json!(at + 1));
        assert_eq!(step["required"], json!(step["name"] != "about"));
        assert!(step["finished_at"].is_string(), "{step}");
    }
    assert_eq!(cluster["steps"], json!(steps));
    // Lists omit the steps.
    let list = site.http.get("/api/clusters").await.is(200).json();
    assert_eq!(list[0].get("steps"), None);
    let events = "/api/clusters/dev/events?kind=step";
    assert_eq!(
        site.http
            .get(events)
            .await
            .is(200)
            .json()
            .as_array()
            .unwrap()
            .len(),
        5
    );
}

#[tokio::test]
async fn a_failed_step_has_a_reason_and_stops_the_task() {
    let site = sandbox("dev:process", "0s").await;
    let _port = declare(&site).await;
    site.until("dev", "actual_state", "failed").await;
    let steps = steps(&site).await;
    assert_eq!(
        states(&steps),
        ["folder done", "port done", "process failed"]
    );
    assert_eq!(steps[2]["reason"], "Failed");
    let why = steps[2]["message"].as_str().unwrap();
    assert!(why.contains("on purpose"), "{why}");
    let task = site.http.get("/api/tasks/reconcile-dev").await.json();
    assert_eq!(
        (&task["status"], &task["progress"]),
        (&json!("failed"), &json!(40))
    );
    assert!(
        task["message"].as_str().unwrap().contains("process"),
        "{task}"
    );
}

#[tokio::test]
async fn a_failed_best_effort_step_leaves_the_cluster_running() {
    let site = sandbox("dev:about", "0s").await;
    let _port = declare(&site).await;
    let cluster = site.until("dev", "actual_state", "running").await;
    assert_eq!(cluster["reason"], "StepFailed");
    assert!(
        cluster["message"].as_str().unwrap().contains("about"),
        "{cluster}"
    );
    let steps = steps(&site).await;
    let about = steps.last().unwrap();
    assert_eq!(
        (&about["state"], &about["required"]),
        (&json!("failed"), &json!(false))
    );
    assert!(about["next_try_at"].is_string(), "{about}");
    let task = site.http.get("/api/tasks/reconcile-dev").await.json();
    assert_eq!(
        (&task["status"], &task["progress"]),
        (&json!("completed"), &json!(100))
    );
}

#[tokio::test]
async fn a_followed_task_advances_with_the_steps() {
    let site = sandbox("", "900ms").await;
    let mut socket = Socket::open(&site).await;
    socket
        .send_json(json!({"type": "subscribe", "task_id": "reconcile-dev"}))
        .await;
    socket.receive().await;
    let _port = declare(&site).await;
    let (mut progress, mut messages) = (Vec::new(), Vec::new());
    while progress.last() != Some(&100) {
        let task = socket.receive().await["task"].clone();
        progress.push(task["progress"].as_u64().unwrap());
        messages.push(task["message"].as_str().unwrap().to_owned());
    }
    assert!(
        progress.is_sorted() && progress.contains(&40),
        "{progress:?}"
    );
    let third = "creating, step 3 of 5: process";
    assert!(
        messages.iter().any(|message| message.ends_with(third)),
        "{messages:#?}"
    );
}

#[tokio::test]
async fn progress_comes_from_steps_not_from_the_log() {
    let site = quiet_site().await;
    site.declare("dev").await;
    assert_eq!(steps(&site).await, Vec::<Value>::new());
    let acting = "UPDATE clusters SET actual_state = 'creating', status_message = 'create begun';";
    site.sql
        .run(
            &[
                acting,
                &step("network", 1, "done"),
                &step("cluster", 2, "running"),
            ]
            .concat(),
        )
        .await;
    let task = site.http.get("/api/tasks/reconcile-dev").await.json();
    assert_eq!(
        (&task["status"], &task["progress"]),
        (&json!("running"), &json!(20))
    );
    let message = task["message"].as_str().unwrap();
    assert!(
        message.starts_with("Cluster dev: creating, step 2 of 5: cluster; no daemon is running"),
        "{message}"
    );
    // A deletion counts the removed steps.
    let deleting = "UPDATE cluster_steps SET state = 'removed', finished_at = now() WHERE position = 2; \
        UPDATE cluster_steps SET state = 'removing', finished_at = NULL WHERE position = 1; \
        UPDATE clusters SET desired_state = 'absent', actual_state = 'deleting'";
    site.sql.run(deleting).await;
    let task = site
        .http
        .get("/api/tasks/reconcile-delete-dev")
        .await
        .json();
    assert_eq!(
        (&task["status"], &task["progress"]),
        (&json!("running"), &json!(20))
    );
    let message = task["message"].as_str().unwrap();
    assert!(
        message.starts_with("Cluster dev: deleting, step 1 of 5: network; no daemon is running"),
        "{message}"
    );
}

#[tokio::test]
async fn one_step_has_no_partial_progress() {
    let site = site().await;
    let slow = r#"echo "step 1/4 network"; while [ ! -e "$here/go" ]; do sleep 0.05; done"#;
    site.host.control("dev.create", slow);
    site.declare("dev").await;
    let task = eventually(SOON, "the command to run", || async {
        let task = site.http.get("/api/tasks/reconcile-dev").await.json();
        task["logs"]
            .to_string()
            .contains("step 1/4")
            .then_some(task)
    })
    .await;
    assert_eq!(
        (&task["status"], &task["progress"]),
        (&json!("running"), &json!(50))
    );
    let all = steps(&site).await;
    assert_eq!(states(&all), ["create_env.sh running"]);
    assert_eq!(all[0]["finished_at"], Value::Null);
    std::fs::write(site.host.path().join("go"), "").unwrap();
    site.until("dev", "actual_state", "running").await;
    assert_eq!(states(&steps(&site).await), ["create_env.sh done"]);
}

#[tokio::test]
async fn a_later_row_has_no_earlier_steps() {
    let site = quiet_site().await;
    site.declare("dev").await;
    site.sql.run(&step("network", 1, "done")).await;
    assert_eq!(states(&steps(&site).await), ["network done"]);
    site.sql.run("SET session_replication_role = replica; DELETE FROM clusters; SET session_replication_role = origin")
        .await;
    site.http.get(STEPS).await.is(404);
    site.declare("dev").await;
    assert_eq!(steps(&site).await, Vec::<Value>::new());
}
