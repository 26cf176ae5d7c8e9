//! The output of a cluster's commands. The log is a file on the host of the
//! daemon that ran them, so only that server can show it.

use std::convert::Infallible;
use std::time::Duration;

use axum::extract::{Path, State};
use axum::http::header;
use axum::response::sse::{Event, KeepAlive, Sse};
use axum::response::{IntoResponse, Response};
use futures_util::stream::{self, StreamExt};
use serde::Deserialize;
use serde_json::json;

use crate::clusters::{Cluster, ClusterName};
use crate::command::{Follow, LogFile, LogOwner, LogText, state_files, tail, whole};

use super::super::access::StreamLifetime;
use super::super::error::ApiError;
use super::Api;
use super::json_errors::ValidQuery;
use super::lookup::parse_name;

const DEFAULT_LINES: usize = 500;
const MAX_LINES: usize = 10_000;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct LogQuery {
    lines: Option<usize>,
    #[serde(default)]
    follow: bool,
    #[serde(default)]
    download: bool,
}

/// The log of the current row of a cluster.
pub(super) fn log_of(api: &Api, cluster: &Cluster) -> LogFile {
    let owner = LogOwner::row(cluster.uid, cluster.created_at);
    api.logs.of(cluster.name.as_str(), owner)
}

/// The log of the current row, or the last log of a name without a row; and
/// whether there is a row.
async fn log_of_name(api: &Api, name: &ClusterName) -> Result<(LogFile, bool), ApiError> {
    Ok(match api.store.get(name).await? {
        Some(cluster) => (log_of(api, &cluster), true),
        None => (api.logs.of(name.as_str(), LogOwner::Last), false),
    })
}

/// The last lines of a cluster's log. `follow` streams them as server-sent events, `line` for each
/// line and `partial` for the text of a line that is still being written, which the next event
/// replaces, until the log of a later cluster of the name begins; `download` returns the whole log. If no
/// cluster has the name, the log is that of the last one.
#[utoipa::path(get, path = "/api/clusters/{name}/log", tag = "clusters", security(("token" = ["read"])),
    params(("name" = String, Path), ("lines" = Option<usize>, Query), ("follow" = Option<bool>, Query),
        ("download" = Option<bool>, Query)),
    responses((status = 200, description = "text"), (status = 404)))]
pub(super) async fn log(
    State(api): State<Api>,
    lifetime: StreamLifetime,
    Path(name): Path<String>,
    ValidQuery(query): ValidQuery<LogQuery>,
) -> Result<Response, ApiError> {
    let name = parse_name(&name)?;
    let lines = query.lines.unwrap_or(DEFAULT_LINES);
    if lines > MAX_LINES {
        let msg = format!("lines {lines} is out of range: use 0 to {MAX_LINES}");
        return Err(ApiError::field("query", "lines", msg, json!(lines)));
    }
    let (file, has_row) = log_of_name(&api, &name).await?;
    let exists = in_time(file.clone(), |file| file.exists()).await?;
    if !has_row && (query.follow || !exists) {
        return Err(ApiError::unknown(name.as_str()));
    }
    if query.follow {
        return follow(lifetime, file, lines).await;
    }
    if !exists {
        return Err(ApiError::NotFound(format!(
            "There is no log of cluster {name} on this host: the first command for the cluster \
             creates it, on the host of the daemon that runs the command"
        )));
    }
    let read = in_time(file, move |file| match query.download {
        true => whole(&file),
        false => tail(&file, lines).map(|lines| lines.join("\n") + "\n"),
    });
    let text = read
        .await?
        .map_err(|error| ApiError::Internal(error.to_string()))?;
    let kind = (header::CONTENT_TYPE, "text/plain; charset=utf-8".to_owned());
    if query.download {
        let file = format!("attachment; filename=\"{name}.log\"");
        return Ok(([kind, (header::CONTENT_DISPOSITION, file)], text).into_response());
    }
    Ok(([kind], text).into_response())
}

/// Reads a file of the state folder, which may not answer.
async fn in_time<T: Send + 'static>(
    file: LogFile,
    read: impl FnOnce(LogFile) -> T + Send + 'static,
) -> Result<T, ApiError> {
    let done = state_files().run(move || read(file)).await;
    done.map_err(|late| ApiError::Unavailable(late.to_string()))
}

async fn follow(
    lifetime: StreamLifetime,
    file: LogFile,
    lines: usize,
) -> Result<Response, ApiError> {
    let follow = in_time(file, move |file| Follow::new(file, lines)).await?;
    let follow = follow.map_err(|error| ApiError::Internal(error.to_string()))?;
    let events = stream::unfold(follow, |follow| async move {
        let (text, follow) = follow.next_in_time().await.ok()?;
        let event = match text? {
            LogText::Line(line) => Event::default().event("line").data(line),
            LogText::Unfinished(text) => Event::default().event("partial").data(text),
        };
        Some((Ok::<_, Infallible>(event), follow))
    });
    let events = events.take_until(async move { lifetime.ended().await });
    let keep_alive = KeepAlive::new().interval(Duration::from_secs(15));
    Ok(Sse::new(events).keep_alive(keep_alive).into_response())
}
