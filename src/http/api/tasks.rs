//! Tasks, as programs know them from the old system: how far an order has got.
//!
//! There is no second bookkeeping: a task is the row, read with the question
//! "is what was ordered reached?". Its id names the cluster, or the revision
//! that ordered a start or a stop.

use axum::Json;
use axum::extract::{Path, State};
use jiff::Timestamp;
use serde::Serialize;

use crate::clusters::{Actual, Cluster, ClusterName, Desired};
use crate::command::{LogOwner, tail};

use super::super::error::ApiError;
use super::Api;

/// So many lines of the log come with a task.
const LOG_LINES: usize = 500;

const OF_CREATE: &str = "reconcile-";
const OF_DELETE: &str = "reconcile-delete-";

/// That an order was taken.
#[derive(Serialize, utoipa::ToSchema)]
pub(super) struct Accepted {
    task_id: String,
    status: &'static str,
    message: String,
}

impl Accepted {
    pub(super) fn new(task_id: String, message: String) -> Self {
        Self {
            task_id,
            status: "pending",
            message,
        }
    }
}

pub(super) fn create_task(name: &ClusterName) -> Accepted {
    let message = format!("Cluster {name} is declared; it is being created");
    Accepted::new(format!("{OF_CREATE}{name}"), message)
}

pub(super) fn delete_task(name: &ClusterName) -> Accepted {
    let message = format!("Cluster {name} is declared absent; it is being deleted");
    Accepted::new(format!("{OF_DELETE}{name}"), message)
}

/// The tasks that a change of this cluster is news for.
pub(super) fn tasks_of(name: &str) -> [String; 2] {
    [format!("{OF_CREATE}{name}"), format!("{OF_DELETE}{name}")]
}

/// How far an order has got.
#[derive(Clone, Debug, Serialize, utoipa::ToSchema)]
pub(super) struct Task {
    task_id: String,
    /// `pending`, `running`, `completed` or `failed` (and tried again).
    status: &'static str,
    /// 0 to 100.
    progress: u8,
    message: String,
    /// The last lines that its commands printed, where they lie on this host.
    logs: Vec<String>,
    error: Option<String>,
    #[schema(value_type = Option<String>, format = DateTime)]
    created_at: Option<Timestamp>,
    #[schema(value_type = Option<String>, format = DateTime)]
    updated_at: Option<Timestamp>,
    #[schema(value_type = Option<String>, format = DateTime)]
    completed_at: Option<Timestamp>,
}

/// How far an order has got.
#[utoipa::path(get, path = "/api/tasks/{id}", tag = "tasks", security(("token" = ["read"])),
    params(("id" = String, Path)), responses((status = 200, body = Task), (status = 404)))]
pub(super) async fn read(
    State(api): State<Api>,
    Path(id): Path<String>,
) -> Result<Json<Task>, ApiError> {
    task(&api, &id).await.map(Json)
}

/// What a task is about.
struct Order {
    name: ClusterName,
    /// The revision that ordered it, if it is about one.
    generation: Option<i64>,
    deletion: bool,
    ordered_at: Option<Timestamp>,
}

pub(super) async fn task(api: &Api, id: &str) -> Result<Task, ApiError> {
    let order = order(api, id).await?;
    let row = api.store.get(&order.name).await?;
    let logs = logs(api, order.name.as_str()).await;
    let Some(cluster) = row else {
        let removed = api.store.removed_at(&order.name).await?;
        let removed = removed.ok_or_else(|| unknown(id))?;
        return Ok(gone(id, &order, removed, logs));
    };
    if order.deletion && cluster.desired != Desired::Absent {
        let removed = api.store.removed_at(&order.name).await?;
        if removed.is_none() && !was_deleted(api, &order.name).await? {
            return Err(unknown(id));
        }
        return Ok(overtaken(id, &order, &cluster, removed, logs));
    }
    let progress = Progress::of(&order, &cluster, &logs);
    Ok(Task {
        task_id: id.to_owned(),
        status: progress.status,
        progress: progress.percent,
        message: told(&cluster),
        logs,
        error: cluster.reconcile_error.clone(),
        created_at: order.ordered_at.or(cluster.updated_at),
        updated_at: cluster.last_reconciled_at.or(cluster.updated_at),
        completed_at: (progress.status == "completed")
            .then_some(cluster.last_reconciled_at)
            .flatten(),
    })
}

/// Whether a cluster that is there was ever declared absent.
async fn was_deleted(api: &Api, name: &ClusterName) -> Result<bool, ApiError> {
    let revisions = api.store.revisions(name).await?;
    Ok(revisions
        .iter()
        .any(|one| one.desired_state == Desired::Absent.as_str()))
}

/// The cluster that a task is about.
pub(super) async fn cluster_of(api: &Api, id: &str) -> Result<String, ApiError> {
    Ok(order(api, id).await?.name.to_string())
}

fn unknown(id: &str) -> ApiError {
    ApiError::NotFound(format!("Task {id} not found"))
}

async fn order(api: &Api, id: &str) -> Result<Order, ApiError> {
    let of_name = |name: &str, deletion| {
        let name = name.parse().ok()?;
        Some(Order {
            name,
            generation: None,
            deletion,
            ordered_at: None,
        })
    };
    if let Some(rest) = id.strip_prefix(OF_CREATE) {
        let deleted = id
            .strip_prefix(OF_DELETE)
            .and_then(|name| of_name(name, true));
        // A cluster may be called delete-something: then its row says so.
        let itself: Option<Order> = of_name(rest, false);
        if let (Some(_), Some(itself)) = (&deleted, &itself)
            && api.store.get(&itself.name).await?.is_some()
        {
            return of_name(rest, false).ok_or_else(|| unknown(id));
        }
        return deleted.or(itself).ok_or_else(|| unknown(id));
    }
    if !is_uuid(id) {
        return Err(unknown(id));
    }
    let found = api.store.task_revision(id).await?;
    let revision = found.ok_or_else(|| unknown(id))?;
    Ok(Order {
        name: revision.cluster_name.parse().map_err(|_| unknown(id))?,
        generation: Some(revision.generation),
        deletion: revision.desired_state == Desired::Absent.as_str(),
        ordered_at: Some(revision.at),
    })
}

fn is_uuid(id: &str) -> bool {
    let groups: Vec<&str> = id.split('-').collect();
    groups.iter().map(|group| group.len()).eq([8, 4, 4, 4, 12])
        && groups.concat().bytes().all(|byte| byte.is_ascii_hexdigit())
}

/// Of a cluster whose row is gone: a deletion is done, and whatever else was
/// ordered will not be.
fn gone(id: &str, order: &Order, removed: Timestamp, logs: Vec<String>) -> Task {
    let name = &order.name;
    Task {
        task_id: id.to_owned(),
        status: if order.deletion {
            "completed"
        } else {
            "failed"
        },
        progress: 100,
        message: format!("Cluster {name} is deleted"),
        logs,
        error: (!order.deletion).then(|| format!("cluster {name} was deleted meanwhile")),
        created_at: order.ordered_at.or(Some(removed)),
        updated_at: Some(removed),
        completed_at: Some(removed),
    }
}

/// A deletion of a cluster that is wanted again: done if the row went before,
/// and otherwise not done any more.
fn overtaken(
    id: &str,
    order: &Order,
    cluster: &Cluster,
    removed: Option<Timestamp>,
    logs: Vec<String>,
) -> Task {
    let name = &order.name;
    match removed {
        Some(removed) => gone(id, order, removed, logs),
        None => Task {
            task_id: id.to_owned(),
            status: "failed",
            progress: 100,
            message: told(cluster),
            logs,
            error: Some(format!(
                "cluster {name} was declared again before it was deleted"
            )),
            created_at: order.ordered_at.or(cluster.updated_at),
            updated_at: cluster.updated_at,
            completed_at: cluster.updated_at,
        },
    }
}

fn told(cluster: &Cluster) -> String {
    let why = cluster
        .status_message
        .as_deref()
        .unwrap_or("not looked at yet");
    format!("Cluster {}: {}, {why}", cluster.name, cluster.actual)
}

struct Progress {
    status: &'static str,
    percent: u8,
}

impl Progress {
    fn of(order: &Order, cluster: &Cluster, logs: &[String]) -> Self {
        let reached = match order.generation {
            Some(generation) => cluster.observed_generation >= generation,
            None => cluster.settled() && !order.deletion,
        };
        let status = match cluster.actual {
            _ if reached => "completed",
            Actual::Failed => "failed",
            Actual::Unknown => "pending",
            Actual::Running | Actual::Stopped => "pending",
            Actual::Creating | Actual::Updating | Actual::Stopping | Actual::Deleting => "running",
        };
        let percent = match status {
            "completed" => 100,
            "pending" => 0,
            _ => steps(logs).unwrap_or(50),
        };
        Self { status, percent }
    }
}

/// How far a command has got by its own words, as in `step 2/3`: what is begun
/// is not done, so the last step is not 100.
fn steps(logs: &[String]) -> Option<u8> {
    // Only of the command that runs: its log has a heading.
    let lines = logs
        .iter()
        .rev()
        .take_while(|line| !line.starts_with("--- "));
    let step = lines.filter_map(|line| line.split_once("step ")).next()?.1;
    let (done, of) = step.split_whitespace().next()?.split_once('/')?;
    let (done, of): (u32, u32) = (done.parse().ok()?, of.parse().ok()?);
    let percent = done.checked_mul(100)?.checked_div(of.checked_add(1)?)?;
    u8::try_from(percent.min(99)).ok()
}

/// The last lines of a cluster's log, if it lies on this host.
pub(super) async fn logs(api: &Api, name: &str) -> Vec<String> {
    let log = api.logs.of(name, LogOwner::Last);
    let read = tokio::task::spawn_blocking(move || tail(&log, LOG_LINES));
    read.await.ok().and_then(Result::ok).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn steps_are_those_of_the_last_command() {
        let lines = |text: &str| text.lines().map(str::to_owned).collect::<Vec<_>>();
        assert_eq!(
            steps(&lines("--- create\nstep 1/3 a\nstep 2/3 b")),
            Some(50)
        );
        assert_eq!(steps(&lines("step 3/3 a\n--- create attempt 2")), None);
        assert_eq!(steps(&lines("--- x\nstep 9/1")), Some(99));
        assert_eq!(steps(&lines("--- x\nstep a/b")), None);
    }

    #[test]
    fn ids_of_revisions_have_their_form() {
        assert!(is_uuid("44f6ba53-4a2e-f295-983d-8af09dbc5de0"));
        for other in [
            "",
            "reconcile-x",
            "------------------------------------",
            "44f6ba534a2e-f295-983d-8af09dbc5de0-",
            "44f6ba53-4a2e-f295-983d-8af09dbc5deg",
        ] {
            assert!(!is_uuid(other), "{other}");
        }
    }
}
