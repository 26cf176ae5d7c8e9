//! Tasks, as in the old system: the progress of a request.
//!
//! Tasks are not stored: the state of a task is derived from the row. Its id
//! names the cluster, or the revision of a start or a stop. A task of a removed
//! row never shows a later row of the same name.

use axum::Json;
use axum::extract::{Path, State};
use jiff::Timestamp;
use serde::Serialize;

use crate::clusters::event::Reason;
use crate::clusters::{Actual, Cluster, ClusterName, Desired, StepProgress, Waiting};
use crate::command::{LogFile, LogOwner, state_files, tail};
use crate::store::Removal;

use super::super::error::ApiError;
use super::Api;
use super::history::revisions_of;
use super::logs::log_of;

/// Lines of the log in a task.
const LOG_LINES: usize = 500;

/// The progress of an action without steps.
const WITHOUT_STEPS: u8 = 50;

/// The prefix of a task that is named after a cluster.
const PREFIX: &str = "reconcile-";
/// Follows [`PREFIX`] in the task of a deletion.
const DELETION: &str = "delete-";

/// The response to an accepted request.
#[derive(Serialize, utoipa::ToSchema)]
pub(super) struct Accepted {
    task_id: String,
    status: &'static str,
    message: String,
    /// Ports of the host that another cluster declares, too.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    warnings: Vec<String>,
}

impl Accepted {
    pub(super) fn new(task_id: String, message: String) -> Self {
        Self {
            task_id,
            status: "pending",
            message,
            warnings: Vec::new(),
        }
    }

    /// The same with warnings.
    pub(super) fn warning(self, warnings: Vec<String>) -> Self {
        Self { warnings, ..self }
    }
}

/// The task of a creation; `waiting`: why it does not begin.
pub(super) fn create_task(name: &ClusterName, waiting: Option<&Waiting>) -> Accepted {
    let begins = begins(waiting, "it is being created");
    let message = format!("Cluster {name} is declared; {begins}");
    Accepted::new(format!("{PREFIX}{name}"), message)
}

/// The task of a deletion; `waiting`: why it does not begin.
pub(super) fn delete_task(name: &ClusterName, waiting: Option<&Waiting>) -> Accepted {
    let begins = begins(waiting, "it is being deleted");
    let message = format!("Cluster {name} is declared absent; {begins}");
    Accepted::new(format!("{PREFIX}{DELETION}{name}"), message)
}

fn begins(waiting: Option<&Waiting>, otherwise: &str) -> String {
    waiting.map_or(otherwise.to_owned(), Waiting::to_string)
}

/// The tasks that a change of this cluster concerns.
pub(super) fn tasks_of(name: &str) -> [String; 2] {
    [
        format!("{PREFIX}{name}"),
        format!("{PREFIX}{DELETION}{name}"),
    ]
}

/// The progress of a task.
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

/// What a task stands for.
struct TaskRequest {
    name: ClusterName,
    /// The generation of its revision, if it has one.
    generation: Option<i64>,
    deletion: bool,
    requested_at: Option<Timestamp>,
}

/// The row of a task, never a later row of the name.
enum TaskRow {
    Present(Box<Cluster>),
    Removed(Removal),
}

impl TaskRequest {
    fn of_name(name: ClusterName, deletion: bool) -> Self {
        Self {
            name,
            generation: None,
            deletion,
            requested_at: None,
        }
    }
}

pub(super) async fn task(api: &Api, id: &str) -> Result<Task, ApiError> {
    let (request, row) = find(api, id).await?;
    match row {
        TaskRow::Removed(removal) => removed(api, id, &request, removal).await,
        TaskRow::Present(cluster) => {
            let logs = lines(log_of(api, &cluster)).await;
            if let Some(completed) = completed(api, &request, &cluster).await? {
                return Ok(finished(id, &request, &cluster, completed, logs));
            }
            if request.deletion && cluster.desired != Desired::Absent {
                return Ok(withdrawn(id, &request, &cluster, logs));
            }
            let steps = api.store.steps(cluster.uid).await?;
            let steps = StepProgress::of(&cluster, &steps);
            let mut task = in_progress(id, &request, &cluster, steps, logs);
            let waiting = api.fleet().await.and_then(|fleet| fleet.waiting(&cluster));
            if let Some(waiting) = waiting {
                task.message = match cluster.actual {
                    Actual::Unknown => format!("Cluster {}: {waiting}", cluster.name),
                    _ => format!("{}; {waiting}", task.message),
                };
            }
            Ok(task)
        }
    }
}

/// The cluster that a task is about.
pub(super) async fn cluster_of(api: &Api, id: &str) -> Result<String, ApiError> {
    Ok(find(api, id).await?.0.name.to_string())
}

fn not_found(id: &str) -> ApiError {
    ApiError::NotFound(format!("Task {id} not found"))
}

async fn find(api: &Api, id: &str) -> Result<(TaskRequest, TaskRow), ApiError> {
    let found = if let Some(name) = id.strip_prefix(PREFIX) {
        of_name(api, name).await?
    } else if is_uuid(id) {
        of_revision(api, id).await?
    } else {
        None
    };
    found.ok_or_else(|| not_found(id))
}

/// The task that is named after a cluster. A deletion, unless there is a cluster
/// whose own name begins with `delete-`.
async fn of_name(api: &Api, name: &str) -> Result<Option<(TaskRequest, TaskRow)>, ApiError> {
    if let Ok(itself) = name.parse::<ClusterName>()
        && let Some(cluster) = api.store.get(&itself).await?
    {
        let request = TaskRequest::of_name(itself, false);
        return Ok(Some((request, TaskRow::Present(Box::new(cluster)))));
    }
    if let Some(deleted) = name.strip_prefix(DELETION) {
        let Ok(deleted) = deleted.parse::<ClusterName>() else {
            return Ok(None);
        };
        let row = deleted_row(api, &deleted).await?;
        return Ok(row.map(|row| (TaskRequest::of_name(deleted, true), row)));
    }
    let Ok(name) = name.parse::<ClusterName>() else {
        return Ok(None);
    };
    let removal = api.store.removal(&name).await?;
    Ok(removal.map(|removal| (TaskRequest::of_name(name, false), TaskRow::Removed(removal))))
}

/// The row of a deletion: the current one if it was ever declared absent,
/// otherwise the last removed one.
async fn deleted_row(api: &Api, name: &ClusterName) -> Result<Option<TaskRow>, ApiError> {
    if let Some(cluster) = api.store.get(name).await? {
        let absent = Desired::Absent;
        let declared = cluster.desired == absent
            || revisions_of(api, name)
                .await?
                .iter()
                .any(|one| one.desired_state == absent.as_str());
        if declared {
            return Ok(Some(TaskRow::Present(Box::new(cluster))));
        }
    }
    Ok(api.store.removal(name).await?.map(TaskRow::Removed))
}

async fn of_revision(api: &Api, id: &str) -> Result<Option<(TaskRequest, TaskRow)>, ApiError> {
    let Some(revision) = api.store.task_revision(id).await? else {
        return Ok(None);
    };
    let Ok(name) = revision.cluster_name.parse() else {
        return Ok(None);
    };
    let request = TaskRequest {
        name,
        generation: Some(revision.generation),
        deletion: revision.desired_state == Desired::Absent.as_str(),
        requested_at: Some(revision.at),
    };
    let row = match (revision.row, revision.removed_at) {
        (Some(cluster), _) => TaskRow::Present(Box::new(cluster)),
        (None, Some(at)) => TaskRow::Removed(Removal {
            at,
            uid: revision.uid,
        }),
        (None, None) => return Ok(None),
    };
    Ok(Some((request, row)))
}

fn is_uuid(id: &str) -> bool {
    id.parse::<uuid::fmt::Hyphenated>().is_ok()
}

/// The task of a removed row: a deletion is completed, any other task has failed unless it was
/// completed before, even if a later row has the name.
async fn removed(
    api: &Api,
    id: &str,
    request: &TaskRequest,
    removal: Removal,
) -> Result<Task, ApiError> {
    let name = &request.name;
    let successor = api.store.get(name).await?.is_some();
    let owner = match removal.uid {
        Some(uid) => Some(LogOwner::row(uid, None)),
        // An earlier release recorded no UID: its lines cannot be distinguished from later ones.
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
    let reached = match removal.uid {
        Some(uid) if !request.deletion => {
            let generation = request.generation.unwrap_or_default();
            api.store.completion(name, uid, generation).await?
        }
        _ => None,
    };
    let completed = request.deletion || reached.is_some();
    let at = reached.unwrap_or(removal.at);
    Ok(Task {
        task_id: id.to_owned(),
        status: if completed { "completed" } else { "failed" },
        progress: 100,
        message: format!("Cluster {name} is deleted{later}"),
        logs,
        error: (!completed).then(|| format!("cluster {name} was deleted meanwhile{later}")),
        created_at: request.requested_at.or(Some(at)),
        updated_at: Some(at),
        completed_at: Some(at),
    })
}

/// The task of a deletion that was withdrawn.
fn withdrawn(id: &str, request: &TaskRequest, cluster: &Cluster, logs: Vec<String>) -> Task {
    let name = &request.name;
    Task {
        task_id: id.to_owned(),
        status: "failed",
        progress: 100,
        message: message(cluster, None),
        logs,
        error: Some(format!(
            "cluster {name} was declared again before it was deleted"
        )),
        created_at: request.requested_at.or(cluster.updated_at),
        updated_at: cluster.updated_at,
        completed_at: cluster.updated_at,
    }
}

/// When the task was completed, if it was: then it stays so, whatever happens to the cluster.
async fn completed(
    api: &Api,
    request: &TaskRequest,
    cluster: &Cluster,
) -> Result<Option<Timestamp>, ApiError> {
    let generation = request.generation.unwrap_or(cluster.generation);
    // The row of a deletion is removed when it is completed.
    let reached = !request.deletion && cluster.observed_generation >= generation;
    if !reached {
        return Ok(None);
    }
    let (name, uid) = (&request.name, cluster.uid);
    let recorded = api.store.completion(name, uid, generation).await?;
    // An earlier release recorded no UID.
    Ok(recorded
        .or(cluster.last_reconciled_at)
        .or(cluster.updated_at))
}

fn finished(
    id: &str,
    request: &TaskRequest,
    cluster: &Cluster,
    at: Timestamp,
    logs: Vec<String>,
) -> Task {
    let now = match cluster.settled() {
        true => message(cluster, None),
        false => format!("Cluster {}: completed", cluster.name),
    };
    Task {
        task_id: id.to_owned(),
        status: "completed",
        progress: 100,
        message: now,
        logs,
        error: None,
        created_at: request.requested_at.or(cluster.updated_at),
        updated_at: Some(at),
        completed_at: Some(at),
    }
}

fn in_progress(
    id: &str,
    request: &TaskRequest,
    cluster: &Cluster,
    steps: Option<StepProgress<'_>>,
    logs: Vec<String>,
) -> Task {
    let progress = TaskProgress::of(cluster, steps);
    Task {
        task_id: id.to_owned(),
        status: progress.status,
        progress: progress.percent,
        message: message(cluster, steps),
        logs,
        error: cluster.reconcile_error.clone(),
        created_at: request.requested_at.or(cluster.updated_at),
        updated_at: cluster.last_reconciled_at.or(cluster.updated_at),
        completed_at: None,
    }
}

fn message(cluster: &Cluster, steps: Option<StepProgress<'_>>) -> String {
    let step = steps.and_then(|steps| steps.sentence());
    let why = step.as_deref().or(cluster.status_message.as_deref());
    let why = why.unwrap_or("not observed yet");
    format!("Cluster {}: {}, {why}", cluster.name, cluster.actual)
}

struct TaskProgress {
    status: &'static str,
    percent: u8,
}

impl TaskProgress {
    fn of(cluster: &Cluster, steps: Option<StepProgress<'_>>) -> Self {
        let status = match cluster.actual {
            Actual::Failed => "failed",
            // Nothing is tried until a person acts.
            Actual::Running if cluster.has_reason(Reason::NeedsRecreation) => "failed",
            Actual::Unknown => "pending",
            Actual::Running | Actual::Stopped => "pending",
            Actual::Creating
            | Actual::Restarting
            | Actual::Updating
            | Actual::Stopping
            | Actual::Deleting => "running",
        };
        let percent = match status {
            "pending" => 0,
            _ => steps.and_then(|s| s.percent()).unwrap_or(WITHOUT_STEPS),
        };
        Self { status, percent }
    }
}

/// The last lines of a log, if it is on this host.
async fn lines(log: LogFile) -> Vec<String> {
    let read = state_files().run(move || tail(&log, LOG_LINES));
    read.await.ok().and_then(Result::ok).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_of_revisions_are_uuids() {
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
