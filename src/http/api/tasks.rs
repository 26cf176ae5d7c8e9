//! Tasks, as programs know them from the old system: how far an order has got.
//!
//! There is no second bookkeeping: a task is the row, read with the question
//! "is what was ordered reached?". Its id names the cluster, or the revision
//! that ordered a start or a stop. A task of a removed row never speaks of a
//! later row of the same name.

use axum::Json;
use axum::extract::{Path, State};
use jiff::Timestamp;
use serde::Serialize;

use crate::clusters::{Actual, Cluster, ClusterName, Desired, StepProgress};
use crate::command::{LogFile, LogOwner, tail};
use crate::store::Removal;

use super::super::error::ApiError;
use super::Api;
use super::history::revisions_of;
use super::logs::log_of;

/// So many lines of the log come with a task.
const LOG_LINES: usize = 500;

/// The progress of an action that has no parts.
const WITHOUT_STEPS: u8 = 50;

const OF_CREATE: &str = "reconcile-";
/// Follows [`OF_CREATE`] in the task of a deletion.
const DELETED: &str = "delete-";

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
    Accepted::new(format!("{OF_CREATE}{DELETED}{name}"), message)
}

/// The tasks that a change of this cluster is news for.
pub(super) fn tasks_of(name: &str) -> [String; 2] {
    [
        format!("{OF_CREATE}{name}"),
        format!("{OF_CREATE}{DELETED}{name}"),
    ]
}

/// How far an order has got.
#[derive(Clone, Debug, Serialize, utoipa::ToSchema)]
pub(super) struct Task {
    task_id: String,
    /// `pending`, `running`, `completed` or `failed` (Kindler retries it).
    status: &'static str,
    /// 0 to 100: the share of the driver's steps that are done.
    progress: u8,
    message: String,
    /// The last lines of output of its commands, if the log is on this host.
    logs: Vec<String>,
    error: Option<String>,
    #[schema(value_type = Option<String>, format = DateTime)]
    created_at: Option<Timestamp>,
    #[schema(value_type = Option<String>, format = DateTime)]
    updated_at: Option<Timestamp>,
    #[schema(value_type = Option<String>, format = DateTime)]
    completed_at: Option<Timestamp>,
}

/// The progress of a task.
#[utoipa::path(get, path = "/api/tasks/{id}", tag = "tasks", security(("token" = ["read"])),
    params(("id" = String, Path)), responses((status = 200, body = Task), (status = 404)))]
pub(super) async fn read(
    State(api): State<Api>,
    Path(id): Path<String>,
) -> Result<Json<Task>, ApiError> {
    task(&api, &id).await.map(Json)
}

/// What a task orders.
struct Order {
    name: ClusterName,
    /// The revision that ordered it, if it is about one.
    generation: Option<i64>,
    deletion: bool,
    ordered_at: Option<Timestamp>,
}

/// The row that a task is about: never another that has its name by now.
enum Subject {
    Present(Box<Cluster>),
    Removed(Removal),
}

impl Order {
    fn of_name(name: ClusterName, deletion: bool) -> Self {
        Self {
            name,
            generation: None,
            deletion,
            ordered_at: None,
        }
    }
}

pub(super) async fn task(api: &Api, id: &str) -> Result<Task, ApiError> {
    let (order, subject) = found(api, id).await?;
    match subject {
        Subject::Removed(removal) => gone(api, id, &order, removal).await,
        Subject::Present(cluster) => {
            let logs = lines(log_of(api, &cluster)).await;
            if order.deletion && cluster.desired != Desired::Absent {
                return Ok(withdrawn(id, &order, &cluster, logs));
            }
            let steps = api.store.steps(cluster.uid).await?;
            let steps = StepProgress::of(&cluster, &steps);
            Ok(under_way(id, &order, &cluster, steps, logs))
        }
    }
}

/// The cluster that a task is about.
pub(super) async fn cluster_of(api: &Api, id: &str) -> Result<String, ApiError> {
    Ok(found(api, id).await?.0.name.to_string())
}

fn unknown(id: &str) -> ApiError {
    ApiError::NotFound(format!("Task {id} not found"))
}

async fn found(api: &Api, id: &str) -> Result<(Order, Subject), ApiError> {
    let found = if let Some(name) = id.strip_prefix(OF_CREATE) {
        of_name(api, name).await?
    } else if is_uuid(id) {
        of_revision(api, id).await?
    } else {
        None
    };
    found.ok_or_else(|| unknown(id))
}

/// The task that is called after a cluster: of a deletion, unless there is a
/// cluster that is called delete-something.
async fn of_name(api: &Api, name: &str) -> Result<Option<(Order, Subject)>, ApiError> {
    if let Ok(itself) = name.parse::<ClusterName>()
        && let Some(cluster) = api.store.get(&itself).await?
    {
        let order = Order::of_name(itself, false);
        return Ok(Some((order, Subject::Present(Box::new(cluster)))));
    }
    if let Some(deleted) = name.strip_prefix(DELETED) {
        let Ok(deleted) = deleted.parse::<ClusterName>() else {
            return Ok(None);
        };
        let subject = deleted_row(api, &deleted).await?;
        return Ok(subject.map(|subject| (Order::of_name(deleted, true), subject)));
    }
    let Ok(name) = name.parse::<ClusterName>() else {
        return Ok(None);
    };
    let removal = api.store.removal(&name).await?;
    Ok(removal.map(|removal| (Order::of_name(name, false), Subject::Removed(removal))))
}

/// The row that a deletion is about: the present one if it was ever declared
/// absent, and otherwise the last that was removed.
async fn deleted_row(api: &Api, name: &ClusterName) -> Result<Option<Subject>, ApiError> {
    if let Some(cluster) = api.store.get(name).await? {
        let absent = Desired::Absent;
        let ordered = cluster.desired == absent
            || revisions_of(api, name)
                .await?
                .iter()
                .any(|one| one.desired_state == absent.as_str());
        if ordered {
            return Ok(Some(Subject::Present(Box::new(cluster))));
        }
    }
    Ok(api.store.removal(name).await?.map(Subject::Removed))
}

async fn of_revision(api: &Api, id: &str) -> Result<Option<(Order, Subject)>, ApiError> {
    let Some(revision) = api.store.task_revision(id).await? else {
        return Ok(None);
    };
    let Ok(name) = revision.cluster_name.parse() else {
        return Ok(None);
    };
    let order = Order {
        name,
        generation: Some(revision.generation),
        deletion: revision.desired_state == Desired::Absent.as_str(),
        ordered_at: Some(revision.at),
    };
    let subject = match (revision.row, revision.removed_at) {
        (Some(cluster), _) => Subject::Present(Box::new(cluster)),
        (None, Some(at)) => Subject::Removed(Removal {
            at,
            uid: revision.uid,
        }),
        (None, None) => return Ok(None),
    };
    Ok(Some((order, subject)))
}

fn is_uuid(id: &str) -> bool {
    id.parse::<uuid::fmt::Hyphenated>().is_ok()
}

/// Of a row that is gone: a deletion is done, and whatever else was ordered will
/// not be, also if there is another row of this name.
async fn gone(api: &Api, id: &str, order: &Order, removal: Removal) -> Result<Task, ApiError> {
    let name = &order.name;
    let successor = api.store.get(name).await?.is_some();
    let owner = match removal.uid {
        Some(uid) => Some(LogOwner::row(uid, None)),
        // Of an earlier release: nothing tells its lines from those of its successor.
        None => (!successor).then_some(LogOwner::Last),
    };
    let logs = match owner {
        Some(owner) => lines(api.logs.of(name.as_str(), owner)).await,
        None => Vec::new(),
    };
    let later = match successor {
        true => "; another cluster has this name now",
        false => "",
    };
    Ok(Task {
        task_id: id.to_owned(),
        status: if order.deletion {
            "completed"
        } else {
            "failed"
        },
        progress: 100,
        message: format!("Cluster {name} is deleted{later}"),
        logs,
        error: (!order.deletion).then(|| format!("cluster {name} was deleted meanwhile{later}")),
        created_at: order.ordered_at.or(Some(removal.at)),
        updated_at: Some(removal.at),
        completed_at: Some(removal.at),
    })
}

/// A deletion of a row that is wanted again.
fn withdrawn(id: &str, order: &Order, cluster: &Cluster, logs: Vec<String>) -> Task {
    let name = &order.name;
    Task {
        task_id: id.to_owned(),
        status: "failed",
        progress: 100,
        message: told(cluster, None),
        logs,
        error: Some(format!(
            "cluster {name} was declared again before it was deleted"
        )),
        created_at: order.ordered_at.or(cluster.updated_at),
        updated_at: cluster.updated_at,
        completed_at: cluster.updated_at,
    }
}

fn under_way(
    id: &str,
    order: &Order,
    cluster: &Cluster,
    steps: Option<StepProgress<'_>>,
    logs: Vec<String>,
) -> Task {
    let progress = Progress::of(order, cluster, steps);
    let done = progress.status == "completed";
    Task {
        task_id: id.to_owned(),
        status: progress.status,
        progress: progress.percent,
        message: told(cluster, steps),
        logs,
        error: cluster.reconcile_error.clone(),
        created_at: order.ordered_at.or(cluster.updated_at),
        updated_at: cluster.last_reconciled_at.or(cluster.updated_at),
        completed_at: cluster.last_reconciled_at.filter(|_| done),
    }
}

fn told(cluster: &Cluster, steps: Option<StepProgress<'_>>) -> String {
    let step = steps.and_then(|steps| steps.sentence());
    let why = step.as_deref().or(cluster.status_message.as_deref());
    let why = why.unwrap_or("not observed yet");
    format!("Cluster {}: {}, {why}", cluster.name, cluster.actual)
}

struct Progress {
    status: &'static str,
    percent: u8,
}

impl Progress {
    fn of(order: &Order, cluster: &Cluster, steps: Option<StepProgress<'_>>) -> Self {
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
            _ => steps.and_then(|s| s.percent()).unwrap_or(WITHOUT_STEPS),
        };
        Self { status, percent }
    }
}

/// The last lines of a log, if it lies on this host.
async fn lines(log: LogFile) -> Vec<String> {
    let read = tokio::task::spawn_blocking(move || tail(&log, LOG_LINES));
    read.await.ok().and_then(Result::ok).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

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
