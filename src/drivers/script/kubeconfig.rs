//! The kubeconfig of a cluster, by its provider's own command on this host.

use std::time::Duration;

use tokio_util::sync::CancellationToken;

use crate::cause::chain;
use crate::clusters::{Cluster, Provider};
use crate::command::{CommandLimits, CommandLine, FinishedCommand, Runner, unconditional_trust};

use super::super::{Kubeconfig, KubeconfigError};

const LIMITS: CommandLimits = CommandLimits {
    deadline: Duration::from_secs(10),
    grace: Duration::from_secs(1),
};

/// Runs the provider's command and gives back what it prints.
pub(super) async fn read(
    runner: &Runner,
    cluster: &Cluster,
) -> Result<Kubeconfig, KubeconfigError> {
    let (cancel, line) = (CancellationToken::new(), line(cluster));
    let run = runner.run(&line, &LIMITS, unconditional_trust(), &cancel, None);
    let finished = run
        .await
        .map_err(|error| KubeconfigError::Failed(chain(&error)))?;
    whole(&line, finished)
}

/// Accepts the output of a command that ended well only if all of it was kept.
fn whole(line: &CommandLine, finished: FinishedCommand) -> Result<Kubeconfig, KubeconfigError> {
    let kept_all = u64::try_from(finished.stdout.len()) == Ok(finished.stdout_bytes);
    if finished.ending.is_clean() && kept_all && !finished.stdout.is_empty() {
        return Ok(Kubeconfig(finished.stdout));
    }
    // Only an error's words are shown; a cut kubeconfig may hold keys.
    let words = if finished.stdout.is_empty() {
        finished.tail.join(" ")
    } else {
        String::new()
    };
    let program = line.program.display();
    let why = format!("{program} {}: {words}", finished.ending);
    Err(KubeconfigError::Failed(why))
}

fn line(cluster: &Cluster) -> CommandLine {
    let name = cluster.name.as_str();
    match cluster.spec.provider {
        Provider::K3d => CommandLine::new("k3d", ["kubeconfig", "get", name]),
        Provider::Kind => CommandLine::new("kind", ["get", "kubeconfig", "--name", name]),
    }
}
