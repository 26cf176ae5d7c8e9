//! Shared by the drivers' tests: rows, orders, free ports, and the interface of a
//! driver's rig.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;
use std::sync::Mutex;
use std::time::Duration;

use kindler::clusters::plan::Action;
use kindler::clusters::{Actual, Cluster, ClusterName, Port, Provider, Spec};
use kindler::command::{Trust, unconditional_trust};
use kindler::core::lease::Term;
use kindler::core::steps::StepError;
use kindler::drivers::{ActionRequest, Deadlines, Driver};
use tokio_util::sync::CancellationToken;

use crate::command::rig::Token;
use crate::kit::{ClaimedPort, claim_port, patience, sample_cluster};

/// Far longer than any action in these tests on a busy machine.
pub const DRIVER_TIMEOUT: Duration = Duration::from_secs(30);
/// The fence of all orders.
pub const TERM: Term = Term(17);

/// A driver with its own clusters, and access to them without the driver.
pub trait DriverRig {
    /// The length of the longest name that the provider takes.
    const LONGEST_NAME: usize = 63;

    /// Whether ports of a cluster that runs can be changed.
    const CHANGES_PORTS: bool = true;

    /// Whether a row keeps a cluster that another row of its name made.
    const KEEPS_CLUSTERS_OF_ANOTHER: bool = false;

    fn new() -> Self;

    /// A newly declared row whose name is unique where rigs share a host.
    fn cluster(&self, name: &str) -> Cluster {
        self.cluster_named(name)
    }

    /// A newly declared row of this name.
    fn cluster_named(&self, name: &str) -> Cluster {
        cluster(name)
    }

    fn driver(&self) -> Box<dyn Driver>;

    /// A driver whose creates hang: their processes are the sleepers of
    /// [`DriverRig::token`].
    fn hanging_driver(&self, deadlines: Deadlines) -> Box<dyn Driver>;

    fn token(&self) -> &Token;

    /// Makes a running cluster unhealthy without the driver.
    fn kill(&self, cluster: &Cluster);

    /// The actual `http_port` of the cluster, if it exists.
    fn applied_port(&self, cluster: &Cluster) -> Option<u16>;
}

/// Deadlines that no test exceeds by chance, and a short grace.
pub fn deadlines() -> Deadlines {
    Deadlines {
        create: DRIVER_TIMEOUT * patience(),
        delete: DRIVER_TIMEOUT * patience(),
        probe: DRIVER_TIMEOUT,
        grace: Duration::from_millis(500),
    }
}

/// A newly declared row with a free `http_port`.
pub fn cluster(name: &str) -> Cluster {
    let sample = sample_cluster();
    Cluster {
        name: ClusterName::parse(name).unwrap(),
        spec: Spec {
            provider: Provider::Kind,
            http_port: free_port(),
            ..sample.spec
        },
        actual: Actual::Creating,
        generation: 3,
        failed_attempts: 1,
        ..sample
    }
}

pub fn port(number: u16) -> Port {
    Port::new("http_port", number.into()).unwrap()
}

/// A port that no other test picks until the tests end.
pub fn free_port() -> Port {
    static CLAIMS: Mutex<Vec<ClaimedPort>> = Mutex::new(Vec::new());
    let claim = claim_port();
    let free = port(claim.number);
    CLAIMS.lock().unwrap().push(claim);
    free
}

/// Acts with a lease that does not end and an order that is not cancelled.
pub async fn act(driver: &dyn Driver, action: Action, cluster: &Cluster) -> Result<(), StepError> {
    let cancel = CancellationToken::new();
    act_until(driver, action, cluster, unconditional_trust(), &cancel).await
}

/// Acts until the trust ends or the order is cancelled.
pub async fn act_until(
    driver: &dyn Driver,
    action: Action,
    cluster: &Cluster,
    trust: Trust,
    cancel: &CancellationToken,
) -> Result<(), StepError> {
    let order = ActionRequest {
        cluster,
        term: TERM,
        trust,
        cancel,
    };
    tokio::time::timeout(DRIVER_TIMEOUT * 2 * patience(), driver.act(action, &order))
        .await
        .expect("an action must end")
}

/// Summary and detail of a transient failure.
#[track_caller]
pub fn transient(result: Result<(), StepError>) -> (String, String) {
    match result.unwrap_err() {
        StepError::Transient { summary, detail } | StepError::Late { summary, detail } => {
            (summary, detail)
        }
        other => panic!("not transient: {other:?}"),
    }
}

/// Summary and detail of a permanent failure.
#[track_caller]
pub fn permanent(result: Result<(), StepError>) -> (String, String) {
    match result.unwrap_err() {
        StepError::Permanent { summary, detail } => (summary, detail),
        other => panic!("not permanent: {other:?}"),
    }
}

/// Writes a program in another process. If this process had the file open for writing,
/// a fork in another test would inherit the handle, and the file could not be executed
/// until that fork execs.
pub fn write_executable(path: &Path, text: &str) {
    let written = Command::new("sh")
        .args(["-c", r#"printf %s "$1" > "$0""#])
        .arg(path)
        .arg(text)
        .status();
    assert!(written.unwrap().success());
    fs::set_permissions(path, Permissions::from_mode(0o755)).unwrap();
}
