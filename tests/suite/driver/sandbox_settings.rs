//! The sandbox driver: configured delays and failures, its log and its messages.

use std::fs;
use std::time::{Duration, Instant};

use kindler::clusters::observation::Observation;
use kindler::clusters::plan::Action;
use kindler::command::unconditional_trust;
use kindler::core::steps::StepError;
use kindler::drivers::Driver;
use kindler::drivers::sandbox::{SandboxDriver, SandboxSettings};
use tokio_util::sync::CancellationToken;

use super::rig::{DRIVER_TIMEOUT, DriverRig, act, act_until, cluster, transient};
use super::sandbox::running;
use super::sandbox_rig::SandboxRig;
use crate::kit::eventually;

#[tokio::test]
async fn a_delay_is_cancelled_at_any_step() {
    let rig = SandboxRig::new();
    let dev = cluster("dev");
    for (step, delay) in [
        ("step 1/5 folder", 600),
        ("step 2/5 port", 3),
        ("step 3/5 process", 3),
    ] {
        let slow = SandboxDriver::new(SandboxSettings {
            create_delay: Duration::from_secs(delay),
            ..rig.settings()
        });
        let cancel = CancellationToken::new();
        let log = rig.logs().path("dev");
        let cancelling = async {
            eventually(DRIVER_TIMEOUT, step, async || {
                fs::read_to_string(&log).is_ok_and(|text| text.contains(step))
            })
            .await;
            cancel.cancel();
            Instant::now()
        };
        let acting = act_until(&slow, Action::Create, &dev, unconditional_trust(), &cancel);
        let (result, cancelled) = tokio::join!(acting, cancelling);
        assert!(
            matches!(result, Err(StepError::Interrupted)),
            "{step}: {result:?}"
        );
        assert!(
            cancelled.elapsed() < Duration::from_millis(900),
            "{:?}",
            cancelled.elapsed()
        );
        let text = fs::read_to_string(&log).unwrap();
        assert!(text.ends_with(" create was interrupted\n"), "{text}");
        fs::remove_file(&log).unwrap();
    }
    let driver = rig.driver();
    act(&*driver, Action::Create, &dev).await.unwrap();
    assert_eq!(driver.observe(&dev).await, Observation::HEALTHY);
}

#[tokio::test]
async fn delays_are_kept() {
    let rig = SandboxRig::new();
    let delay = Duration::from_millis(600);
    let slow = SandboxDriver::new(SandboxSettings {
        create_delay: delay,
        delete_delay: delay,
        ..rig.settings()
    });
    for action in [Action::Create, Action::Delete] {
        let begun = Instant::now();
        act(&slow, action, &cluster("dev")).await.unwrap();
        assert!(
            begun.elapsed() >= delay,
            "{action:?}: {:?}",
            begun.elapsed()
        );
    }
}

#[tokio::test]
async fn failures_occur_as_configured() {
    let rig = SandboxRig::new();
    let configured = SandboxDriver::new(SandboxSettings {
        always_fails: vec!["dev".parse().unwrap()],
        ..rig.settings()
    });
    let (dev, other) = (cluster("dev"), cluster("other"));
    let (summary, _) = transient(act(&configured, Action::Create, &dev).await);
    assert!(
        summary.contains("on purpose") && summary.contains("KINDLER_SANDBOX_FAIL"),
        "{summary}"
    );
    act(&configured, Action::Create, &other).await.unwrap();
    act(&configured, Action::Delete, &dev).await.unwrap();

    let mut failed = 0;
    for (rate, name) in [(0.0, "never"), (0.5, "half"), (1.0, "always")] {
        // A new cluster: an action without work cannot fail.
        let other = cluster(name);
        let driver = SandboxDriver::new(SandboxSettings {
            failure_rate: rate,
            ..rig.settings()
        });
        let before = failed;
        for action in [Action::Create, Action::Delete].repeat(32) {
            failed += u32::from(act(&driver, action, &other).await.is_err());
        }
        match failed - before {
            0 => assert!(rate < 0.1),
            64 => assert!(rate > 0.9),
            _ => assert!((0.1..0.9).contains(&rate)),
        }
    }
}

#[tokio::test]
async fn the_log_names_the_steps_and_the_sandbox() {
    let (rig, driver, dev) = running().await;
    act(&*driver, Action::Create, &dev).await.unwrap();
    act(&*driver, Action::Delete, &dev).await.unwrap();
    let text = fs::read_to_string(rig.logs().path("dev")).unwrap();
    let lines: Vec<&str> = text
        .lines()
        .map(|line| {
            if line.starts_with("---") {
                &line[25..]
            } else {
                line
            }
        })
        .collect();
    let expected = [
        "create attempt 2 generation 3 term 17 uid 00000000-0000-0000-0000-000000000001: sandbox, not a real cluster",
        "step 1/5 folder",
        "step 2/5 port",
        "step 3/5 process",
        "step 5/5 about",
        "create succeeded",
        "delete attempt 2 generation 3 term 17 uid 00000000-0000-0000-0000-000000000001: sandbox, not a real cluster",
        "step 5/5 about",
        "step 4/5 ready",
        "step 3/5 process",
        "step 2/5 port",
        "step 1/5 folder",
        "delete succeeded",
    ];
    assert_eq!(lines, expected);
}

#[tokio::test]
async fn a_node_that_does_not_start_is_reported_with_a_reason() {
    let rig = SandboxRig::new();
    let none = SandboxDriver::new(SandboxSettings {
        node_program: "/no/such/kindler".into(),
        ..rig.settings()
    });
    let (summary, detail) = transient(act(&none, Action::Create, &cluster("dev")).await);
    assert_eq!(
        summary,
        "step process: cannot start sandbox node /no/such/kindler: \
         No such file or directory (os error 2)"
    );
    assert!(detail.starts_with("log: "), "{detail}");
    let wrong = SandboxDriver::new(SandboxSettings {
        node_program: "/bin/false".into(),
        ..rig.settings()
    });
    let (summary, _) = transient(act(&wrong, Action::Create, &cluster("dev")).await);
    assert!(
        summary.starts_with("step process: the sandbox node did not start (exit status: 1)"),
        "{summary}"
    );
}

#[tokio::test]
async fn preflight_creates_the_folder_or_reports_why_not() {
    let rig = SandboxRig::new();
    assert_eq!(rig.driver().preflight().await, Ok(()));
    assert!(rig.dir.join("sandbox").is_dir());
    let blocked = SandboxDriver::new(SandboxSettings {
        dir: "/proc/sandbox".into(),
        ..rig.settings()
    });
    let faults = blocked.preflight().await.unwrap_err();
    let start = "KINDLER_STATE_DIR: cannot use sandbox folder /proc/sandbox: ";
    assert!(
        faults.len() == 1 && faults[0].starts_with(start),
        "{faults:?}"
    );
}
