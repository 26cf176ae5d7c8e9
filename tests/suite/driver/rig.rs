//! What a driver's tests stand on: rows, orders, free ports, and what each driver's rig can do.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;
use std::sync::Mutex;
use std::time::Duration;

use kindler::clusters::plan::Action;
use kindler::clusters::{Actual, Cluster, ClusterName, Desired, PartialSpec, Port, Provider};
use kindler::command::{Trust, unconditional_trust};
use kindler::core::lease::Term;
use kindler::core::steps::StepError;
use kindler::drivers::{ActionRequest, Deadlines, Driver};
use tokio_util::sync::CancellationToken;

use crate::command::rig::Token;
use crate::kit::{ClaimedPort, claim_port};

/// Far longer than anything here takes on a busy machine.
pub const PATIENCE: Duration = Duration::from_secs(30);
/// The fence of all orders.
pub const TERM: Term = Term(17);

/// A driver with clusters of its own, and hands that reach behind its back.
pub trait Rig {
    fn new() -> Self;

    fn driver(&self) -> Box<dyn Driver>;

    /// One whose creates hang: their processes are the sleepers of [`Rig::token`].
    fn hanging_driver(&self, deadlines: Deadlines) -> Box<dyn Driver>;

    fn token(&self) -> &Token;

    /// Makes a running cluster ill, from outside.
    fn kill(&self, cluster: &Cluster);

    /// The `http_port` that the cluster really has, if it is there.
    fn applied_port(&self, cluster: &Cluster) -> Option<u16>;
}

/// Deadlines that no test meets by accident, and no grace to wait for.
pub fn deadlines() -> Deadlines {
    Deadlines {
        create: PATIENCE,
        delete: PATIENCE,
        probe: PATIENCE,
        grace: Duration::from_millis(500),
    }
}

/// A row, declared just now, with an `http_port` that nobody uses.
pub fn cluster(name: &str) -> Cluster {
    Cluster {
        name: ClusterName::parse(name).unwrap(),
        uid: uuid::Uuid::from_u128(1),
        spec_hash: String::new(),
        spec: PartialSpec {
            provider: Some(Provider::Kind),
            http_port: Some(free_port()),
            ..PartialSpec::default()
        }
        .or_default(),
        desired: Desired::Present,
        actual: Actual::Creating,
        status_reason: None,
        status_message: None,
        reconcile_error: None,
        labels: serde_json::json!({}),
        paused: false,
        protected: false,
        generation: 3,
        observed_generation: 0,
        spec_applied: false,
        failed_attempts: 1,
        next_attempt_at: None,
        health_failures: 0,
        last_healthy_at: None,
        next_check_at: None,
        last_reconciled_at: None,
        retry_requested_at: None,
        server_ip: None,
        placed_by: None,
        created_at: None,
        updated_at: None,
    }
}

pub fn port(number: u16) -> Port {
    Port::new("http_port", number.into()).unwrap()
}

/// A port that nobody else of the tests picks until they end.
pub fn free_port() -> Port {
    static CLAIMS: Mutex<Vec<ClaimedPort>> = Mutex::new(Vec::new());
    let claim = claim_port();
    let free = port(claim.number);
    CLAIMS.lock().unwrap().push(claim);
    free
}

/// Acts with a lease that does not end and nobody who withdraws the order.
pub async fn act(driver: &dyn Driver, action: Action, cluster: &Cluster) -> Result<(), StepError> {
    let cancel = CancellationToken::new();
    act_until(driver, action, cluster, unconditional_trust(), &cancel).await
}

/// Acts as long as it is allowed to.
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
    tokio::time::timeout(PATIENCE * 2, driver.act(action, &order))
        .await
        .expect("an action must end")
}

/// Summary and detail of a failure that may pass.
#[track_caller]
pub fn transient(result: Result<(), StepError>) -> (String, String) {
    match result.unwrap_err() {
        StepError::Transient { summary, detail } | StepError::Late { summary, detail } => {
            (summary, detail)
        }
        other => panic!("not transient: {other:?}"),
    }
}

/// Summary and detail of a failure that a person must mend.
#[track_caller]
pub fn permanent(result: Result<(), StepError>) -> (String, String) {
    match result.unwrap_err() {
        StepError::Permanent { summary, detail } => (summary, detail),
        other => panic!("not permanent: {other:?}"),
    }
}

/// Writes a program. By way of another process: a file that this one has open for writing would
/// stay so in what another test forks at that moment, and could not be executed until it execs.
pub fn write_executable(path: &Path, text: &str) {
    let written = Command::new("sh")
        .args(["-c", r#"printf %s "$1" > "$0""#])
        .arg(path)
        .arg(text)
        .status();
    assert!(written.unwrap().success());
    fs::set_permissions(path, Permissions::from_mode(0o755)).unwrap();
}
