//! Shows the kubeconfig of a cluster of this host, or merges it into the user's.

use std::fs;
use std::io;

use tokio_util::sync::CancellationToken;

use crate::clusters::Cluster;
use crate::command::Runner;
use crate::drivers::native::{UserKubeconfig, private_kubeconfig};
use crate::drivers::{KubeconfigError, of_provider};

use super::args::KubeconfigArgs;
use super::error::CliError;
use super::outcome::Exit;
use super::screen::write_out;
use super::session::CliSession;

pub(super) async fn kubeconfig(
    session: &CliSession,
    args: KubeconfigArgs,
) -> Result<Exit, CliError> {
    let name = &args.name;
    let cluster = session.found(name, session.store.get(name).await).await?;
    let text = read(session, &cluster).await?;
    if !args.merge {
        return write_out(&text);
    }
    let files = UserKubeconfig::of_environment()?;
    let of = (cluster.spec.provider, name);
    let (context, file) = files.merge(&text, of, &CancellationToken::new())?;
    write_out(&format!(
        "context {context} is in {}; use it: kubectl --context {context} get nodes\n",
        file.display()
    ))
}

/// The private file of the native driver; without one, what the provider's command prints.
async fn read(session: &CliSession, cluster: &Cluster) -> Result<String, CliError> {
    let path = private_kubeconfig(&session.connection.state_dir, &cluster.name);
    let name = cluster.name.clone();
    match fs::read_to_string(&path) {
        Ok(text) => return Ok(text),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(source) => return Err(CliError::PrivateKubeconfig { path, source }),
    }
    match of_provider(&Runner::default(), cluster).await {
        Ok(printed) => Ok(String::from_utf8_lossy(&printed.0).into_owned()),
        Err(KubeconfigError::None(why)) => Err(CliError::NoKubeconfig {
            name,
            why: why.to_owned(),
        }),
        Err(KubeconfigError::Failed(why)) => Err(CliError::NoKubeconfig { name, why }),
    }
}
