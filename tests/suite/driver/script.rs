//! The script driver: the input of its commands, and how it reports their results.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::time::Duration;

use kindler::clusters::observation::{Observation, PresentState};
use kindler::clusters::plan::Action;
use kindler::clusters::{Cluster, Provider};
use kindler::drivers::script::{CONTEXT_ENV, ScriptDriver, ScriptSettings};
use kindler::drivers::{Deadlines, Driver};

use super::rig::{DriverRig, TERM, act, cluster, deadlines, permanent, port, transient};
use super::script_rig::ScriptRig;

/// Writes the arguments and the environment to files.
const DUMP: &str = r#"printf '%s\n' "$@" > "args-$KINDLER_ACTION"; env > "env-$KINDLER_ACTION""#;

fn driver(settings: ScriptSettings) -> ScriptDriver {
    ScriptDriver::new(settings)
}

/// A driver whose create command is this script.
fn create_driver(rig: &ScriptRig, text: &str) -> ScriptDriver {
    driver(ScriptSettings {
        create: Some(rig.script("create_env.sh", text)),
        ..rig.settings()
    })
}

/// A driver whose probe fails and whose exists command is this script.
fn exists_driver(rig: &ScriptRig, exists: &str) -> ScriptDriver {
    driver(ScriptSettings {
        probe: Some(rig.script("unhealthy.sh", "echo connection refused >&2; exit 7")),
        exists: Some(rig.script("exists.sh", exists)),
        ..rig.settings()
    })
}

#[track_caller]
fn unknown(observed: Observation) -> String {
    match observed {
        Observation::Unknown(why) => why,
        other => panic!("not unknown: {other}"),
    }
}

/// The KINDLER_ variables, and all others that are not passed by default.
fn variables(rig: &ScriptRig, action: &str) -> (Vec<String>, Vec<String>) {
    let text = rig.read(&format!("env-{action}"));
    let (mut kindler_variables, mut others) = (Vec::new(), Vec::new());
    for line in text.lines() {
        let name = line.split('=').next().unwrap();
        let listed = kindler::command::PASSED_ENV.iter().any(|pattern| {
            let start = pattern.strip_suffix('*');
            start.map_or(name == *pattern, |start| name.starts_with(start))
        });
        // bash sets these itself.
        let bash = ["PWD", "OLDPWD", "SHLVL", "_"].contains(&name);
        if name.starts_with("KINDLER_") {
            kindler_variables.push(line.to_owned());
        } else if !listed && !bash {
            others.push(name.to_owned());
        }
    }
    kindler_variables.retain(|line| !line.starts_with("KINDLER_RUN="));
    kindler_variables.sort();
    (kindler_variables, others)
}

#[tokio::test]
async fn every_command_gets_exactly_its_arguments_and_context() {
    let rig = ScriptRig::new();
    let dump = Some(rig.script("dump.sh", &format!("{DUMP}; [ $KINDLER_ACTION != probe ]")));
    let mut settings = ScriptSettings {
        create: dump.clone(),
        delete: dump.clone(),
        probe: dump.clone(),
        exists: dump.clone(),
        start: dump.clone(),
        stop: dump.clone(),
        ..rig.settings()
    };
    // Cargo sets dozens of variables in a test; one of them is passed by name.
    settings.runner.pass_env = vec!["CARGO_PKG_NAME".to_owned()];
    let driver = driver(settings);
    let mut dev = cluster("dev");
    dev.spec.provider = Provider::K3d;
    dev.spec.http_port = port(18080);
    dev.spec.subnet = Some("10.101.0.0/16".parse().unwrap());
    dev.spec.haproxy_route = false;
    for &action in Action::ALL {
        act(&driver, action, &dev).await.unwrap();
    }
    assert!(!driver.observe(&dev).await.is_healthy());

    let spec = "-n dev -p k3d --node-port 30080 --pf-port 19000 --http-port 18080 \
                --https-port 18443 --no-haproxy-route";
    for (action, args) in [
        ("create", spec),
        ("update", spec),
        ("delete", "-n dev -p k3d"),
        ("start", "dev k3d"),
        ("stop", "dev k3d"),
        ("probe", "dev k3d"),
        ("exists", "dev k3d"),
    ] {
        let got = rig.read(&format!("args-{action}"));
        assert_eq!(got.lines().collect::<Vec<_>>().join(" "), args, "{action}");
        let mut expected = vec![
            format!("KINDLER_ACTION={action}"),
            "KINDLER_GENERATION=3".to_owned(),
            "KINDLER_NAME=dev".to_owned(),
            "KINDLER_PROVIDER=k3d".to_owned(),
            "KINDLER_SUBNET=10.101.0.0/16".to_owned(),
            format!("KINDLER_UID={}", dev.uid),
        ];
        if !["probe", "exists"].contains(&action) {
            expected.push("KINDLER_ATTEMPT=2".to_owned());
            expected.push(format!("KINDLER_TERM={TERM}"));
            expected.push(format!("KINDLER_FENCE={TERM}"));
        }
        expected.sort();
        let (kindler_variables, others) = variables(&rig, action);
        assert_eq!(kindler_variables, expected, "{action}");
        assert_eq!(others, ["CARGO_PKG_NAME"], "{action}");
        let documented = |line: &String| {
            CONTEXT_ENV
                .iter()
                .any(|(name, _)| line.starts_with(&format!("{name}=")))
        };
        assert!(
            kindler_variables.iter().all(documented),
            "{kindler_variables:?}"
        );
    }
}

#[tokio::test]
async fn a_row_without_subnet_sets_no_subnet() {
    let rig = ScriptRig::new();
    let driver = create_driver(&rig, DUMP);
    act(&driver, Action::Create, &cluster("dev")).await.unwrap();
    let (kindler_variables, _) = variables(&rig, "create");
    assert!(
        !kindler_variables
            .iter()
            .any(|line| line.starts_with("KINDLER_SUBNET")),
        "{kindler_variables:?}"
    );
}

#[tokio::test]
async fn an_exit_code_is_reported_with_last_lines_and_log() {
    let rig = ScriptRig::new();
    for code in [1, 2, 3, 127, 255] {
        let driver = create_driver(
            &rig,
            &format!("echo first; echo '[ERROR] no room' >&2; exit {code}"),
        );
        let (summary, detail) = transient(act(&driver, Action::Create, &cluster("dev")).await);
        let start = format!("create_env.sh exited with code {code} after ");
        assert!(summary.starts_with(&start), "{summary}");
        let log = rig.logs().path("dev");
        assert!(
            detail.ends_with(&format!("\nlog: {}", log.display())),
            "{detail}"
        );
        assert!(
            detail.contains("[ERROR] no room") && detail.contains("first"),
            "{detail}"
        );
    }
}

#[tokio::test]
async fn the_detail_is_short_for_any_output() {
    let rig = ScriptRig::new();
    let text = "for i in $(seq 200); do printf '%04d %0400d\\n' $i 0; done; exit 1";
    let (_, detail) =
        transient(act(&create_driver(&rig, text), Action::Create, &cluster("dev")).await);
    assert!(detail.len() < 2048, "{} bytes", detail.len());
    assert!(
        detail.contains("0200 0") && detail.contains("\nlog: "),
        "{detail}"
    );
}

#[tokio::test]
async fn a_signal_and_a_deadline_differ_from_an_exit() {
    let rig = ScriptRig::new();
    let killed = create_driver(&rig, "kill -KILL $$");
    let (summary, _) = transient(act(&killed, Action::Create, &cluster("dev")).await);
    assert!(
        summary.starts_with("create_env.sh was killed by signal 9 (SIGKILL) after "),
        "{summary}"
    );
    let settings = ScriptSettings {
        delete: Some(rig.script("delete_env.sh", "echo waiting; sleep 600")),
        deadlines: Deadlines {
            delete: Duration::from_millis(700),
            ..deadlines()
        },
        ..rig.settings()
    };
    let late = driver(settings);
    let (summary, detail) = transient(act(&late, Action::Delete, &cluster("dev")).await);
    assert!(
        summary.starts_with("delete_env.sh was stopped at its deadline after ")
            && summary.contains(" (KINDLER_DELETE_DEADLINE="),
        "{summary}"
    );
    assert!(detail.starts_with("waiting\n"), "{detail}");
}

#[tokio::test]
async fn a_command_that_cannot_start_names_the_setting_to_correct() {
    let rig = ScriptRig::new();
    let plain = rig.script("plain.sh", "true");
    fs::set_permissions(&plain, Permissions::from_mode(0o644)).unwrap();
    let missing = PathBuf::from("/no/such/create_env.sh");
    let odd = rig.script("odd.sh", "true");
    fs::write(&odd, "#!/no/such/shell -e\r\ntrue\n").unwrap();
    let bare = rig.script("bare.sh", "true");
    fs::write(&bare, "true\n").unwrap();
    let (plain_is, odd_is, bare_is) = (plain.display(), odd.display(), bare.display());
    let chmod = format!("chmod +x {plain_is}, then kindler retry dev");
    let first_line =
        format!("install it or correct the first line of {odd_is}, then kindler retry dev");
    let correct = "restore it or correct KINDLER_CREATE_COMMAND, then kindler retry dev";
    let start =
        format!("let {bare_is} begin with a line such as #!/bin/bash, then kindler retry dev");
    for (program, summary, next) in [
        (
            missing.clone(),
            format!("program /no/such/create_env.sh does not exist: {correct}"),
            correct,
        ),
        (
            bare.clone(),
            format!(
                "program {bare_is} is neither a script that names its interpreter nor a program of this machine: {start}"
            ),
            &start,
        ),
        (
            plain.clone(),
            format!("program {plain_is} is not executable: {chmod}"),
            &chmod,
        ),
        (
            odd.clone(),
            format!(
                "program {odd_is} names the interpreter /no/such/shell, which does not exist: {first_line}"
            ),
            &first_line,
        ),
    ] {
        let broken = driver(ScriptSettings {
            create: Some(program),
            ..rig.settings()
        });
        let failure = permanent(act(&broken, Action::Create, &cluster("dev")).await);
        assert_eq!(failure, (summary, next.to_owned()));
    }
    let unset = driver(ScriptSettings {
        delete: None,
        ..rig.settings()
    });
    let (summary, detail) = permanent(act(&unset, Action::Delete, &cluster("dev")).await);
    assert_eq!(summary, "KINDLER_DELETE_COMMAND is not set");
    assert!(detail.contains("delete_env.sh"), "{detail}");
}

#[tokio::test]
async fn preflight_names_every_setting_that_cannot_work() {
    let rig = ScriptRig::new();
    let plain = rig.script("plain.sh", "true");
    fs::set_permissions(&plain, Permissions::from_mode(0o644)).unwrap();
    let odd = rig.script("odd.sh", "true");
    fs::write(&odd, "#!/no/such/shell -e\r\ntrue\n").unwrap();
    let bare = rig.script("bare.sh", "true");
    fs::write(&bare, "true\n").unwrap();
    assert_eq!(driver(rig.settings()).preflight().await, Ok(()));
    let unusable = driver(ScriptSettings {
        start: Some(odd.clone()),
        stop: Some(bare.clone()),
        ..rig.settings()
    });
    let expected = [
        format!(
            "KINDLER_START_COMMAND: {} names the interpreter /no/such/shell, which does not exist",
            odd.display()
        ),
        format!(
            "KINDLER_STOP_COMMAND: {} is neither a script that names its interpreter nor a \
             program of this machine",
            bare.display()
        ),
    ];
    assert_eq!(unusable.preflight().await, Err(expected.to_vec()));
    let broken = driver(ScriptSettings {
        create: None,
        delete: Some("/no/such/delete_env.sh".into()),
        probe: Some(plain.clone()),
        exists: Some("no-such-program-in-path".into()),
        stop: Some(rig.dir.path().into()),
        ..rig.settings()
    });
    let expected = [
        "KINDLER_CREATE_COMMAND is not set: give the path of the host's create_env.sh".to_owned(),
        "KINDLER_DELETE_COMMAND: /no/such/delete_env.sh does not exist".to_owned(),
        format!(
            "KINDLER_PROBE_COMMAND: {} is not executable",
            plain.display()
        ),
        "KINDLER_EXISTS_COMMAND: no-such-program-in-path is not found in PATH".to_owned(),
        format!(
            "KINDLER_STOP_COMMAND: {} is not a file",
            rig.dir.path().display()
        ),
    ];
    assert_eq!(broken.preflight().await, Err(expected.to_vec()));
    // Missing default tools are not an error.
    let defaults = driver(ScriptSettings {
        probe: None,
        exists: None,
        start: None,
        stop: None,
        ..rig.settings()
    });
    assert_eq!(defaults.preflight().await, Ok(()));
}

#[tokio::test]
async fn only_0_and_1_say_whether_a_cluster_exists() {
    let rig = ScriptRig::new();
    let dev = cluster("dev");
    let observed = exists_driver(&rig, "exit 0").observe(&dev).await;
    let Observation::Present(PresentState::Unhealthy(why)) = observed else {
        panic!("{observed}");
    };
    assert!(
        why.starts_with("unhealthy.sh exited with code 7 after "),
        "{why}"
    );
    assert!(why.ends_with(": connection refused"), "{why}");
    assert_eq!(
        exists_driver(&rig, "exit 1").observe(&dev).await,
        Observation::Absent
    );
    for (text, expected_text) in [
        (
            "echo no database >&2; exit 2",
            "exists.sh exited with code 2 after ",
        ),
        ("exit 127", "exists.sh exited with code 127 after "),
        (
            "kill -TERM $$",
            "exists.sh was killed by signal 15 (SIGTERM) after ",
        ),
    ] {
        let why = unknown(exists_driver(&rig, text).observe(&dev).await);
        assert!(
            why.contains(expected_text) && why.contains("unhealthy.sh exited"),
            "{why}"
        );
    }
}

#[tokio::test]
async fn a_probe_that_cannot_work_is_an_unknown_observation() {
    let rig = ScriptRig::new();
    let dev = cluster("dev");
    let observe = async |probe: &str, exists: &str| {
        let driver = driver(ScriptSettings {
            probe: Some(rig.script("probe.sh", probe)),
            exists: Some(rig.script("exists.sh", exists)),
            ..rig.settings()
        });
        driver.observe(&dev).await
    };
    for (probe, words) in [
        (
            "/no/such/kubectl get nodes",
            "/no/such/kubectl: No such file",
        ),
        ("exec /etc/passwd", "ermission denied"),
        ("exit 126", "a program in it cannot be executed"),
        ("exit 127", "a program in it does not exist"),
        (
            "no-such-kubectl get nodes",
            "no-such-kubectl: command not found",
        ),
        (
            "no-such-kubectl || exit 1",
            "no-such-kubectl: command not found",
        ),
        (
            "echo 'error: context \"k3d-dev\" does not exist' >&2; exit 1",
            "context \"k3d-dev\" does not exist",
        ),
    ] {
        let why = unknown(observe(probe, "exit 0").await);
        assert!(why.starts_with("probe.sh exited with code 1"), "{why}");
        assert!(why.contains("because it could not run: "), "{why}");
        assert!(why.contains(words), "{why}");
        assert!(why.ends_with("kubeconfig and container runtime"), "{why}");
        // Its context is gone together with the cluster.
        assert_eq!(observe(probe, "exit 1").await, Observation::Absent);
    }
    let lists = "echo 'exists.sh: line 1: k3d: command not found' >&2; exit 1";
    let why = unknown(observe("exit 1", lists).await);
    assert!(why.contains("k3d: command not found"), "{why}");
}

#[tokio::test]
async fn a_hanging_or_missing_probe_is_an_unknown_observation() {
    let rig = ScriptRig::new();
    let dev = cluster("dev");
    let short = Deadlines {
        probe: Duration::from_millis(700),
        ..deadlines()
    };
    let hanging = driver(ScriptSettings {
        probe: Some(rig.script("unhealthy.sh", "exit 1")),
        exists: Some(rig.script("hang.sh", "sleep 600")),
        deadlines: short,
        ..rig.settings()
    });
    let why = unknown(hanging.observe(&dev).await);
    assert!(why.contains("hang.sh was stopped at its deadline"), "{why}");

    // A hanging probe is not an answer, but the cluster exists.
    let hanging = driver(ScriptSettings {
        probe: Some(rig.script("hang.sh", "sleep 600")),
        exists: Some(rig.script("exists.sh", "exit 0")),
        deadlines: short,
        ..rig.settings()
    });
    let observed = hanging.observe(&dev).await;
    assert!(
        matches!(observed, Observation::Present(PresentState::Unhealthy(_))),
        "{observed}"
    );

    for (probe, exists, setting) in [
        (
            "/no/such/probe.sh",
            "/bin/false",
            "correct KINDLER_PROBE_COMMAND",
        ),
        (
            "/bin/false",
            "/no/such/exists.sh",
            "correct KINDLER_EXISTS_COMMAND",
        ),
    ] {
        let broken = driver(ScriptSettings {
            probe: Some(probe.into()),
            exists: Some(exists.into()),
            ..rig.settings()
        });
        let why = unknown(broken.observe(&dev).await);
        assert!(
            why.contains(setting) && why.contains("does not exist"),
            "{why}"
        );
    }
}

#[tokio::test]
async fn the_log_has_the_output_of_actions_and_not_of_probes() {
    let rig = ScriptRig::new();
    let (driver, dev): (_, Cluster) = (driver(rig.settings()), cluster("dev"));
    for action in [Action::Create, Action::Delete] {
        act(&driver, action, &dev).await.unwrap();
        let before = rig.read("logs/dev.log");
        driver.observe(&dev).await;
        assert_eq!(rig.read("logs/dev.log"), before, "a probe was logged");
    }
    let log = rig.read("logs/dev.log");
    let starts: Vec<&str> = log
        .lines()
        .filter(|line| line.contains(" attempt "))
        .collect();
    assert_eq!(starts.len(), 2, "{log}");
    assert!(
        starts[0].contains(" create attempt 2 generation 3 term 17 uid "),
        "{log}"
    );
    assert!(
        starts[0].contains("/create_env.sh -n dev -p kind --node-port 30080 "),
        "{log}"
    );
    assert!(
        starts[1].contains(" delete attempt 2 generation 3 term 17 uid "),
        "{log}"
    );
    assert!(log.contains("\n[CREATE] dev\n"), "{log}");
    assert!(log.contains(" create exited with code 0 after "), "{log}");
    let journal = rig.read("journal");
    let complete = |line: &str| line.contains(" dev pid ") && line.ends_with(" fence 17");
    assert_eq!(
        journal.lines().filter(|line| complete(line)).count(),
        4,
        "{journal}"
    );
}
