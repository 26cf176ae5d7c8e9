//! Reads clusters: lists with filters, one cluster, its status.

use axum::Json;
use axum::extract::{Path, State};
use axum::http::{HeaderName, HeaderValue, Uri, header};
use axum::response::{IntoResponse, Response};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::clusters::{Actual, Cluster, Desired, Provider, Selector};
use crate::live::View;
use crate::store::ClusterFilter;

use super::super::error::ApiError;
use super::Api;
use super::json_errors::ValidQuery;
use super::lookup::{find, parse_name};
use super::steps::{ClusterWithSteps, with_steps};

/// Maximum and default size of a list.
const MAX_PAGE: i64 = 100_000;

const ORDERS: [&str; 6] = [
    "name",
    "-name",
    "created_at",
    "-created_at",
    "actual_state",
    "-actual_state",
];

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ListQuery {
    q: Option<String>,
    provider: Option<String>,
    desired: Option<String>,
    actual: Option<String>,
    reason: Option<String>,
    paused: Option<bool>,
    selector: Option<String>,
    sort: Option<String>,
    limit: Option<i64>,
    offset: Option<i64>,
}

/// All clusters, newest first, with optional filters, order and pages. X-Total-Count is the
/// number on all pages.
#[utoipa::path(get, path = "/api/clusters", tag = "clusters", security(("token" = ["read"])),
    params(("q" = Option<String>, Query, description = "part of the name"),
        ("provider" = Option<String>, Query), ("desired" = Option<String>, Query, description = "states, separated by commas"),
        ("actual" = Option<String>, Query, description = "states, separated by commas"), ("reason" = Option<String>, Query),
        ("paused" = Option<bool>, Query), ("selector" = Option<String>, Query, description = "env=prod,team in (a,b),!old"),
        ("sort" = Option<String>, Query, description = "name, created_at or actual_state; a leading - reverses the order"),
        ("limit" = Option<i64>, Query), ("offset" = Option<i64>, Query)),
    responses((status = 200, body = Vec<View>), (status = 422)))]
pub(super) async fn list(
    State(api): State<Api>,
    uri: Uri,
    ValidQuery(query): ValidQuery<ListQuery>,
) -> Result<Response, ApiError> {
    let filter = filter(query)?;
    let listed = api.store.filtered(&filter).await?;
    let shown = listed.rows.len();
    let fleet = api.fleet().await;
    let view = |row| View::of_row(row, fleet.as_deref());
    let views: Vec<View> = listed.rows.into_iter().map(view).collect();
    let mut response = Json(views).into_response();
    let headers = response.headers_mut();
    if let Some(total) = listed.total {
        headers.insert("x-total-count", HeaderValue::from(total));
    }
    let next = filter.offset + i64::try_from(shown).unwrap_or(0);
    let mut links = Vec::new();
    if shown > 0 && listed.total.is_some_and(|total| next < total) {
        links.push(page_link(&uri, next, "next"));
    }
    if filter.offset > 0 {
        links.push(page_link(
            &uri,
            (filter.offset - filter.limit).max(0),
            "prev",
        ));
    }
    if let Ok(links) = HeaderValue::from_str(&links.join(", "))
        && !links.is_empty()
    {
        headers.insert(header::LINK, links);
    }
    Ok(response)
}

/// The link to another page: the same query with another offset.
fn page_link(uri: &Uri, offset: i64, rel: &str) -> String {
    let given = uri.query().unwrap_or_default().split('&');
    let kept = given.filter(|part| !part.is_empty() && !part.starts_with("offset="));
    let offset = format!("offset={offset}");
    let query: Vec<&str> = kept.chain([offset.as_str()]).collect();
    format!("<{}?{}>; rel=\"{rel}\"", uri.path(), query.join("&"))
}

fn filter(query: ListQuery) -> Result<ClusterFilter, ApiError> {
    let wrong =
        |field: &str, msg: String, input: Value| ApiError::field("query", field, msg, input);
    let values = |field: &str, given: Option<String>, allowed: &[&str]| {
        let Some(given) = given else { return Ok(None) };
        let values: Vec<String> = given
            .split(',')
            .map(|value| value.trim().to_owned())
            .collect();
        match values
            .iter()
            .find(|value| !allowed.is_empty() && !allowed.contains(&value.as_str()))
        {
            Some(bad) => {
                let msg = format!("{field} {bad:?} is not known: use {}", allowed.join(", "));
                Err(wrong(field, msg, json!(given)))
            }
            None => Ok(Some(values)),
        }
    };
    let within = |field: &str, given: Option<i64>, least: i64, default: i64| match given {
        Some(n) if !(least..=MAX_PAGE).contains(&n) => {
            let msg = format!("{field} {n} is out of range: use {least} to {MAX_PAGE}");
            Err(wrong(field, msg, json!(n)))
        }
        given => Ok(given.unwrap_or(default)),
    };
    let selector: Selector = match &query.selector {
        Some(text) => text
            .parse()
            .map_err(|error: crate::clusters::SelectorError| {
                wrong("selector", error.to_string(), json!(text))
            })?,
        None => Selector::default(),
    };
    let order = query.sort.unwrap_or_else(|| "-created_at".to_owned());
    if !ORDERS.contains(&order.as_str()) {
        let msg = format!("sort {order:?} is not known: use {}", ORDERS.join(", "));
        return Err(wrong("sort", msg, json!(order)));
    }
    let states: Vec<&str> = Actual::ALL.iter().map(|state| state.as_str()).collect();
    let desired: Vec<&str> = Desired::ALL.iter().map(|state| state.as_str()).collect();
    Ok(ClusterFilter {
        // Names are lower-case.
        part: query.q.map(|part| part.to_lowercase()),
        providers: values(
            "provider",
            query.provider,
            &Provider::ALL.map(Provider::as_str),
        )?,
        desired: values("desired", query.desired, &desired)?,
        actual: values("actual", query.actual, &states)?,
        reasons: values("reason", query.reason, &[])?,
        paused: query.paused,
        labels: json!(selector),
        order,
        limit: within("limit", query.limit, 1, MAX_PAGE)?,
        offset: within("offset", query.offset, 0, 0)?,
    })
}

/// One cluster with its steps; its ETag is its generation.
#[utoipa::path(get, path = "/api/clusters/{name}", tag = "clusters", security(("token" = ["read"])),
    params(("name" = String, Path)), responses((status = 200, body = ClusterWithSteps), (status = 404)))]
pub(super) async fn get(
    State(api): State<Api>,
    Path(name): Path<String>,
) -> Result<Response, ApiError> {
    let cluster = find(&api, &parse_name(&name)?).await?;
    let body = with_steps(&api, &cluster).await?;
    Ok((etag(&cluster), Json(body)).into_response())
}

/// The response for one cluster.
pub(super) async fn one(api: &Api, cluster: &Cluster) -> Response {
    one_with(api, cluster, &[]).await
}

/// The same with warnings about what was just declared, if there are any.
pub(super) async fn one_with(api: &Api, cluster: &Cluster, warnings: &[String]) -> Response {
    let fleet = api.fleet().await;
    let mut view = json!(View::within(cluster, None, fleet.as_deref()));
    if !warnings.is_empty() {
        view["warnings"] = json!(warnings);
    }
    (etag(cluster), Json(view)).into_response()
}

fn etag(cluster: &Cluster) -> [(HeaderName, String); 1] {
    [(header::ETAG, format!("\"{}\"", cluster.generation))]
}

/// The state of one cluster in the short form of the old system. Checks Portainer and Argo CD
/// if the cluster is registered there, for at most 5 s.
#[utoipa::path(get, path = "/api/clusters/{name}/status", tag = "clusters", security(("token" = ["read"])),
    params(("name" = String, Path)), responses((status = 200, body = Object), (status = 404)))]
pub(super) async fn status(
    State(api): State<Api>,
    Path(name): Path<String>,
) -> Result<Json<Value>, ApiError> {
    let cluster = find(&api, &parse_name(&name)?).await?;
    let of = async |service, registered: bool| match registered {
        true => super::services::service_status(service, &api.base_domain).await,
        false => Value::from("unknown"),
    };
    let (portainer, argocd) = futures_util::future::join(
        of("portainer", cluster.spec.register_portainer),
        of("argocd", cluster.spec.register_argocd),
    )
    .await;
    let view = View::within(&cluster, None, api.fleet().await.as_deref());
    Ok(Json(json!({
        "name": cluster.name,
        "status": cluster.actual,
        "nodes_ready": 0,
        "nodes_total": 0,
        "portainer_status": portainer,
        "argocd_status": argocd,
        "error_message": cluster.reconcile_error,
        "reason": cluster.status_reason,
        "message": view.message,
    })))
}
