//! Log lines: JSON without a terminal, constant messages with fields, one span for each
//! reconcile, and a level that can change while the daemon runs.

use std::fs;

use rustix::process::Signal;
use serde_json::Value;

use super::{SOON, Scene, scene_with};
use crate::kit::{Sql, eventually};

/// All lines, each of which must be JSON.
fn lines(scene: &Scene) -> Vec<Value> {
    let log = scene.daemon.log();
    // The last line may be incomplete.
    let whole = log.rsplit_once('\n').map_or("", |(whole, _)| whole);
    whole
        .lines()
        .map(|line| serde_json::from_str(line).unwrap_or_else(|_| panic!("{line}")))
        // The tests' server is not durable; the daemon says so at its first heartbeat.
        .filter(|line: &Value| line["code"] != "DurabilityOff")
        .collect()
}

fn reconciled(line: &Value, cluster: &str, step: &str) -> bool {
    let span = &line["spans"][0];
    line["message"] == "reconciled" && span["cluster"] == cluster && span["step"] == step
}

#[tokio::test]
async fn each_reconcile_is_one_span_and_messages_are_constant() {
    let scene = scene_with(|daemon| {
        daemon
            .set("KINDLER_LOG", "debug")
            .set("KINDLER_LOG_FORMAT", "auto")
    })
    .await;
    scene.host.control("lively.create", "exit 3");
    scene.sql.declare("lively").await;
    scene.sql.wait_state("lively", "present failed").await;
    scene.host.release("lively.create");
    scene.sql.wait_state("lively", "present running").await;
    scene.sql.run("DELETE FROM clusters").await;
    scene.sql.wait_state("lively", "gone").await;
    let ended = |step: &'static str| {
        let scene = &scene;
        eventually(SOON, step, move || async move {
            let lines = lines(scene);
            lines
                .into_iter()
                .rfind(|line| reconciled(line, "lively", step))
        })
    };
    let made = ended("create").await;
    let span = &made["spans"][0];
    assert_eq!(span["name"], "reconcile");
    assert_eq!(span["reason"], "Created");
    assert!(span["attempt"].as_u64().unwrap() >= 2, "{span}");
    assert!(span["term"].as_i64().unwrap() >= 1, "{span}");
    assert!(span["seconds"].as_f64().unwrap() > 0.0, "{span}");
    assert_eq!(made["spans"].as_array().unwrap().len(), 1);
    ended("delete").await;

    let lines = lines(&scene);
    let failed = lines.iter().find(|line| line["message"] == "action failed");
    let failed = failed.expect("a line of the failure");
    assert_eq!(failed["level"], "WARN");
    assert_eq!(failed["reason"], "CreateFailed");
    assert_eq!(failed["spans"][0]["cluster"], "lively");
    for line in &lines {
        let message = line["message"].as_str().unwrap_or_default();
        let ours = line["target"].as_str().unwrap_or_default();
        assert!(!ours.starts_with("tokio_postgres"), "{line}");
        let constant = !message.contains("lively") && !message.contains(char::is_numeric);
        assert!(constant || !ours.starts_with("kindler"), "{line}");
    }
}

#[tokio::test]
async fn the_level_changes_while_the_daemon_runs() {
    let settings = |log: &str| format!("log = {log}\n");
    let scene = scene_with(|daemon| {
        daemon
            // Empty counts as not set, so that the file sets the level.
            .set("KINDLER_LOG", "")
            .set("KINDLER_LOG_FORMAT", "json")
            .set("KINDLER_CONFIG", "level.toml")
            .with_file("level.toml", &settings("\"warn\""))
    })
    .await;
    let changed_to = |level: &'static str, times: usize| {
        let scene = &scene;
        eventually(SOON, level, move || async move {
            let lines = lines(scene);
            lines.iter().filter(|line| line["level"] == level).count() >= times
        })
    };
    assert_eq!(lines(&scene), Vec::<Value>::new(), "info lines are off");

    // SIGUSR1 adds debug lines.
    scene.daemon.signal(Signal::USR1);
    changed_to("INFO", 1).await;
    let changed = lines(&scene).remove(0);
    assert_eq!(changed["message"], "log level is changed");
    assert_eq!(changed["level"], "INFO");
    scene.sql.declare("seen").await;
    scene.sql.wait_state("seen", "present running").await;
    changed_to("DEBUG", 1).await;

    // SIGUSR2 reads the file again.
    let path = scene.host.path().join("level.toml");
    fs::write(&path, settings("\"info\"")).unwrap();
    scene.daemon.signal(Signal::USR2);
    let is_info = |line: &Value| line["message"] == "log level is changed" && line["log"] == "info";
    let at = eventually(SOON, "the setting to be read", || async {
        lines(&scene).iter().position(is_info)
    })
    .await;
    scene.sql.declare("quiet").await;
    scene.sql.wait_state("quiet", "present running").await;
    let after = lines(&scene).split_off(at + 1);
    assert!(
        after.iter().all(|line| line["level"] != "DEBUG"),
        "{after:?}"
    );
    assert!(after.iter().any(|line| line["message"] == "acting"));

    // An invalid value is logged with the error of the settings, and changes nothing.
    fs::write(&path, settings("\"kindler=loud\"")).unwrap();
    scene.daemon.signal(Signal::USR2);
    changed_to("ERROR", 1).await;
    let refused = lines(&scene)
        .into_iter()
        .find(|line| line["level"] == "ERROR")
        .unwrap();
    assert_eq!(refused["message"], "the log level is unchanged");
    let why = refused["error"].as_str().unwrap();
    assert!(why.starts_with("level.toml: log: "), "{why}");
    assert!(scene.daemon.get("/healthz").await.is_some());
}
