//! The script driver without its own probe and exists commands: it uses kubectl, k3d,
//! kind and docker. Here these are scripts in the `PATH` of the guard.

use std::path::PathBuf;
use std::time::Duration;

use kindler::clusters::observation::{Observation, PresentState};
use kindler::clusters::plan::Action;
use kindler::clusters::{Cluster, Provider};
use kindler::command::Runner;
use kindler::drivers::script::{ScriptDriver, ScriptSettings};
use kindler::drivers::{Deadlines, Driver};

use super::rig::{DriverRig, act, cluster, deadlines, write_executable};
use super::script_rig::ScriptRig;

/// Simulated tools in a folder.
struct Tools {
    rig: ScriptRig,
}

impl Tools {
    /// kubectl fails, so the driver asks whether the cluster exists.
    fn new() -> Self {
        let rig = ScriptRig::new();
        std::fs::create_dir(rig.path("bin")).unwrap();
        let tools = Self { rig };
        tools.tool("kubectl", "echo 'The connection was refused' >&2; exit 1");
        tools
    }

    /// Every call is recorded before the text runs.
    fn tool(&self, name: &str, text: &str) -> &Self {
        let called = format!("echo \"{name} $*\" >> calls\n{text}");
        self.rig.script(&format!("bin/{name}"), &called);
        self
    }

    /// The guard is started through a script that changes its `PATH`, and so that of
    /// its command.
    fn driver(&self) -> ScriptDriver {
        self.driver_within(deadlines().probe)
    }

    /// The same with this deadline of a probe.
    fn driver_within(&self, probe: Duration) -> ScriptDriver {
        let guard_program: PathBuf = self.rig.path("guard");
        let kindler = env!("CARGO_BIN_EXE_kindler");
        let bin = self.rig.path("bin");
        let text = format!(
            "#!/bin/sh\nPATH={}:/usr/bin:/bin exec {kindler} \"$@\"\n",
            bin.display()
        );
        write_executable(&guard_program, &text);
        ScriptDriver::new(ScriptSettings {
            runner: Runner {
                guard_program,
                ..Runner::default()
            },
            deadlines: Deadlines {
                probe,
                ..deadlines()
            },
            ..ScriptSettings::new(self.rig.logs())
        })
    }

    async fn observe(&self, cluster: &Cluster) -> Observation {
        self.driver().observe(cluster).await
    }

    fn calls(&self) -> String {
        self.rig.read("calls")
    }
}

fn row(provider: Provider) -> Cluster {
    let mut cluster = cluster("dev");
    cluster.spec.provider = provider;
    cluster
}

#[track_caller]
fn assert_unknown(observed: &Observation, expected_text: &str) {
    match observed {
        Observation::Unknown(why) => assert!(why.contains(expected_text), "{why}"),
        other => panic!("not unknown ({expected_text}): {other}"),
    }
}

fn unhealthy(observed: &Observation) -> bool {
    matches!(observed, Observation::Present(PresentState::Unhealthy(why)) if why.contains("was refused"))
}

#[tokio::test]
async fn a_cluster_whose_nodes_answer_is_healthy() {
    let tools = Tools::new();
    tools.tool("kubectl", "echo NAME STATUS; echo server-0 Ready");
    for provider in Provider::ALL {
        assert_eq!(tools.observe(&row(provider)).await, Observation::HEALTHY);
    }
    let expected = "kubectl --context k3d-dev get nodes\nkubectl --context kind-dev get nodes\n";
    assert_eq!(tools.calls(), expected);
}

/// kubectl exits with 0 for both.
#[tokio::test]
async fn nodes_that_are_not_ready_and_no_nodes_are_unhealthy() {
    let tools = Tools::new();
    tools.tool("kubectl", "echo NAME STATUS; echo server-0 NotReady");
    let not_ready = Observation::unhealthy("node server-0 is not ready: NotReady");
    assert_eq!(tools.observe(&row(Provider::K3d)).await, not_ready);
    tools.tool("kubectl", "echo 'No resources found' >&2");
    let none = Observation::unhealthy("it has no nodes");
    assert_eq!(tools.observe(&row(Provider::Kind)).await, none);
}

/// A dead server behind a live load balancer answers just after the deadline.
#[tokio::test]
async fn a_probe_that_takes_too_long_is_a_failed_one() {
    let tools = Tools::new();
    tools.tool("kubectl", "exec sleep 600");
    tools.tool(
        "k3d",
        r#"echo '[{"name":"dev","serversCount":1,"serversRunning":1}]'"#,
    );
    let driver = tools.driver_within(Duration::from_secs(2));
    let observed = driver.observe(&row(Provider::K3d)).await;
    assert!(
        matches!(&observed, Observation::Present(PresentState::Unhealthy(why)) if why.contains("deadline")),
        "{observed}"
    );
}

#[tokio::test]
async fn the_k3d_list_shows_state_and_existence() {
    let (tools, dev) = (Tools::new(), row(Provider::K3d));
    tools.tool(
        "k3d",
        r#"echo '[{"name":"dev","serversCount":1,"serversRunning":1}]'"#,
    );
    assert!(unhealthy(&tools.observe(&dev).await));
    assert!(tools.calls().ends_with("\nk3d cluster list -o json\n"));
    tools.tool(
        "k3d",
        r#"echo '[{"name":"dev","serversCount":1,"serversRunning":0}]'"#,
    );
    assert_eq!(tools.observe(&dev).await, Observation::STOPPED);
    tools.tool("k3d", r#"echo WARN >&2; echo '[{"name":"dev-2"}]'"#);
    assert_eq!(tools.observe(&dev).await, Observation::Absent);
    tools.tool("k3d", "echo '[]'");
    assert_eq!(tools.observe(&dev).await, Observation::Absent);
}

#[tokio::test]
async fn a_missing_context_or_engine_is_an_unknown_observation() {
    let (tools, dev) = (Tools::new(), row(Provider::K3d));
    tools.tool("k3d", r#"echo '[{"name":"dev"}]'"#);
    for words in [
        "error: context \"k3d-dev\" does not exist",
        "error: stat /root/.kube/config: no such file or directory",
        "The connection to the server localhost:8080 was refused - did you specify the right host?",
    ] {
        tools.tool("kubectl", &format!("echo '{words}' >&2; exit 1"));
        assert_unknown(&tools.observe(&dev).await, words);
    }
    tools.tool("k3d", "echo '[]'");
    assert_eq!(tools.observe(&dev).await, Observation::Absent);
}

#[tokio::test]
async fn a_failed_k3d_list_is_an_unknown_observation() {
    let (tools, dev) = (Tools::new(), row(Provider::K3d));
    assert_unknown(
        &tools.observe(&dev).await,
        "install k3d, or set KINDLER_EXISTS_COMMAND",
    );
    for (text, expected_text) in [
        ("true", "printed no list"),
        ("echo null", "printed no list"),
        (
            r#"echo '[{"name":"dev"}]'; echo FATA no docker >&2; exit 1"#,
            "exited with code 1",
        ),
        ("echo '[]'; kill -KILL $$", "signal 9"),
        (
            "echo '['; head -c 5000000 /dev/zero | tr '\\0' ' '; echo ']'",
            "printed more than",
        ),
    ] {
        tools.tool("k3d", text);
        assert_unknown(&tools.observe(&dev).await, expected_text);
    }
}

#[tokio::test]
async fn a_long_list_is_read_completely() {
    let (tools, dev) = (Tools::new(), row(Provider::K3d));
    let other = r#"printf '{"name":"c%s","nodes":["%05000d"]},' $i 0"#;
    let list =
        |last: &str| format!("echo '['; for i in $(seq 100); do {other}; done; echo '{last}]'");
    tools.tool("k3d", &list(r#"{"name":"dev"}"#));
    assert!(unhealthy(&tools.observe(&dev).await));
    tools.tool("k3d", &list(r#"{"name":"last"}"#));
    assert_eq!(tools.observe(&dev).await, Observation::Absent);
}

#[tokio::test]
async fn the_kind_list_and_docker_show_state_and_existence() {
    let (tools, dev) = (Tools::new(), row(Provider::Kind));
    tools
        .tool("kind", "echo other; echo dev")
        .tool("docker", "echo running");
    assert!(unhealthy(&tools.observe(&dev).await));
    let calls = tools.calls();
    assert!(calls.contains("\nkind get clusters\n"), "{calls}");
    let inspect = "docker container inspect --format={{.State.Status}} dev-control-plane\n";
    assert!(calls.ends_with(inspect), "{calls}");
    tools.tool("docker", "echo exited");
    assert_eq!(tools.observe(&dev).await, Observation::STOPPED);
    // The cluster is listed; a failing docker does not change that.
    tools.tool("docker", "exit 1");
    assert!(unhealthy(&tools.observe(&dev).await));
    tools.tool("kind", "echo other");
    assert_eq!(tools.observe(&dev).await, Observation::Absent);
    tools.tool("kind", "echo 'No kind clusters found.' >&2");
    assert_eq!(tools.observe(&dev).await, Observation::Absent);
}

#[tokio::test]
async fn a_failed_kind_list_is_an_unknown_observation() {
    let (tools, dev) = (Tools::new(), row(Provider::Kind));
    assert_unknown(
        &tools.observe(&dev).await,
        "install kind, or set KINDLER_EXISTS_COMMAND",
    );
    for (text, expected_text) in [
        ("true", "printed nothing"),
        ("echo 'something else' >&2", "printed nothing"),
        (
            "echo 'No kind clusters found.' >&2; exit 1",
            "exited with code 1",
        ),
        (
            "echo ERROR: no docker",
            "printed something that is not a cluster name",
        ),
    ] {
        tools.tool("kind", text);
        assert_unknown(&tools.observe(&dev).await, expected_text);
    }
}

#[tokio::test]
async fn each_provider_has_its_own_start_and_stop() {
    let tools = Tools::new();
    tools.tool("k3d", "true").tool("docker", "true");
    let driver = tools.driver();
    for provider in Provider::ALL {
        for action in [Action::Stop, Action::Start] {
            act(&driver, action, &row(provider)).await.unwrap();
        }
    }
    assert_eq!(
        tools.calls(),
        "k3d cluster stop dev\nk3d cluster start dev\n\
         docker stop dev-control-plane\ndocker start dev-control-plane\n"
    );
}

#[tokio::test]
async fn the_kubeconfig_is_the_output_of_the_provider() {
    let tools = Tools::new();
    tools.tool("k3d", "echo 'apiVersion: v1'");
    tools.tool("kind", "echo 'apiVersion: v1'");
    for provider in Provider::ALL {
        let config = tools.driver().kubeconfig(&row(provider)).await.unwrap();
        assert_eq!(config.0, b"apiVersion: v1\n");
        assert_eq!(format!("{config:?}"), "Kubeconfig(15 bytes)");
    }
    let calls = tools.calls();
    let mut calls: Vec<&str> = calls.lines().collect();
    calls.sort_unstable();
    let expected = ["k3d kubeconfig get dev", "kind get kubeconfig --name dev"];
    assert_eq!(calls, expected);
}

#[tokio::test]
async fn an_incomplete_kubeconfig_is_an_error_and_not_shown() {
    let (tools, dev) = (Tools::new(), row(Provider::K3d));
    let refused = async || {
        let read = tools.driver().kubeconfig(&dev).await;
        read.unwrap_err().to_string()
    };
    let missing = refused().await;
    assert!(missing.contains("k3d"), "{missing}");
    for (text, expected_text) in [
        ("true", "k3d exited with code 0: "),
        (
            "echo 'no such cluster' >&2; exit 1",
            "code 1: no such cluster",
        ),
        ("echo client-key-data; exit 1", "code 1: "),
        ("head -c 5000000 /dev/zero | tr '\\0' x", "code 0: "),
    ] {
        tools.tool("k3d", text);
        let why = refused().await;
        assert!(why.ends_with(expected_text), "{why}");
    }
}
