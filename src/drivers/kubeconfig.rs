//! Reads the kubeconfig of a cluster with the command of its provider.

use std::time::Duration;

use tokio_util::sync::CancellationToken;

use crate::cause::chain;
use crate::clusters::{Cluster, Provider};
use crate::command::{CommandLimits, CommandLine, FinishedCommand, Runner, unconditional_trust};

use super::{Kubeconfig, KubeconfigError};

const LIMITS: CommandLimits = CommandLimits {
    deadline: Duration::from_secs(10),
    grace: Duration::from_secs(1),
};

/// Runs the provider's command and returns its output.
///
/// # Errors
/// [`KubeconfigError`]; it never contains a part of a kubeconfig.
pub async fn read(runner: &Runner, cluster: &Cluster) -> Result<Kubeconfig, KubeconfigError> {
    let (cancel, line) = (CancellationToken::new(), line(cluster));
    let run = runner.run(&line, &LIMITS, unconditional_trust(), &cancel, None);
    let finished = run
        .await
        .map_err(|error| KubeconfigError::Failed(chain(&error)))?;
    complete(&line, finished)
}

/// Accepts the output of a successful command only if it is complete.
fn complete(line: &CommandLine, finished: FinishedCommand) -> Result<Kubeconfig, KubeconfigError> {
    let is_complete = u64::try_from(finished.stdout.len()) == Ok(finished.stdout_bytes);
    if finished.ending.is_clean() && is_complete && !finished.stdout.is_empty() {
        return Ok(Kubeconfig(finished.stdout));
    }
    // Shows only stderr: an incomplete kubeconfig may contain keys.
    let message = if finished.stdout.is_empty() {
        finished.tail.join(" ")
    } else {
        String::new()
    };
    let program = line.program.display();
    let why = format!("{program} {}: {message}", finished.ending);
    Err(KubeconfigError::Failed(why))
}

fn line(cluster: &Cluster) -> CommandLine {
    let name = cluster.name.as_str();
    match cluster.spec.provider {
        Provider::K3d => CommandLine::new("k3d", ["kubeconfig", "get", name]),
        Provider::Kind => CommandLine::new("kind", ["get", "kubeconfig", "--name", name]),
    }
}
