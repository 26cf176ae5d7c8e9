//! The kubeconfig of a cluster, by its provider's own command on this host.

use std::time::Duration;

use axum::extract::{Path, State};
use axum::http::header;
use axum::response::{IntoResponse, Response};
use tokio_util::sync::CancellationToken;

use crate::cause::chain;
use crate::clusters::{Cluster, Provider};
use crate::command::{CommandLine, Limits, Runner, unconditional_trust};

use super::super::error::ApiError;
use super::Api;
use super::named::{known, named};

const LIMITS: Limits = Limits {
    deadline: Duration::from_secs(10),
    grace: Duration::from_secs(1),
};

/// Where kubeconfigs come from.
#[derive(Clone, Debug)]
pub enum Kubeconfigs {
    /// The providers' commands on this host.
    Commands(Runner),
    /// Nowhere, for this reason.
    None(&'static str),
}

/// The kubeconfig of a cluster, as its provider gives it; it lets its holder do everything there.
#[utoipa::path(get, path = "/api/clusters/{name}/kubeconfig", tag = "clusters", security(("token" = ["admin"])),
    params(("name" = String, Path)),
    responses((status = 200, description = "YAML"), (status = 404, description = "there is none, and why")))]
pub(super) async fn kubeconfig(
    State(api): State<Api>,
    Path(name): Path<String>,
) -> Result<Response, ApiError> {
    let cluster = known(&api, &named(&name)?).await?;
    let runner = match &api.kubeconfigs {
        Kubeconfigs::Commands(runner) => runner,
        Kubeconfigs::None(why) => return Err(ApiError::NotFound((*why).to_owned())),
    };
    let (cancel, line) = (CancellationToken::new(), command(&cluster));
    let run = runner.run(&line, &LIMITS, unconditional_trust(), &cancel, None);
    let run = run.await;
    let none = |why: String| {
        ApiError::NotFound(format!("There is no kubeconfig of cluster {name}: {why}"))
    };
    let finished = run.map_err(|error| none(chain(&error)))?;
    let whole = u64::try_from(finished.stdout.len()) == Ok(finished.stdout_bytes);
    if !finished.ending.is_clean() || !whole || finished.stdout.is_empty() {
        // Only an error's words are shown; a cut kubeconfig may hold keys.
        let words = if finished.stdout.is_empty() {
            finished.tail.join(" ")
        } else {
            String::new()
        };
        let program = line.program.display();
        return Err(none(format!("{program} {}: {words}", finished.ending)));
    }
    let headers = [
        (header::CONTENT_TYPE, "application/yaml".to_owned()),
        (
            header::CONTENT_DISPOSITION,
            format!("attachment; filename=\"{}.yaml\"", cluster.name),
        ),
    ];
    Ok((headers, finished.stdout).into_response())
}

fn command(cluster: &Cluster) -> CommandLine {
    let name = cluster.name.as_str();
    match cluster.spec.provider {
        Provider::K3d => CommandLine::new("k3d", ["kubeconfig", "get", name]),
        Provider::Kind => CommandLine::new("kind", ["get", "kubeconfig", "--name", name]),
    }
}
