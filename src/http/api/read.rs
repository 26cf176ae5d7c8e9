//! Reading clusters: lists with filters, one, its status.

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
use super::named::{known, named};
use super::steps::{Detailed, detailed};
use super::words::Asked;

/// A page that is not asked for in parts.
const LONGEST_PAGE: i64 = 100_000;

/// The orders of a list.
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

/// All clusters, newest first; filtered, sorted and in pages if asked. X-Total-Count tells how
/// many there are on all pages.
#[utoipa::path(get, path = "/api/clusters", tag = "clusters", security(("token" = ["read"])),
    params(("q" = Option<String>, Query, description = "part of the name"),
        ("provider" = Option<String>, Query), ("desired" = Option<String>, Query, description = "states, separated by commas"),
        ("actual" = Option<String>, Query, description = "states, separated by commas"), ("reason" = Option<String>, Query),
        ("paused" = Option<bool>, Query), ("selector" = Option<String>, Query, description = "env=prod,team in (a,b),!old"),
        ("sort" = Option<String>, Query, description = "name, created_at or actual_state; with - the other way"),
        ("limit" = Option<i64>, Query), ("offset" = Option<i64>, Query)),
    responses((status = 200, body = Vec<View>), (status = 422)))]
pub(super) async fn list(
    State(api): State<Api>,
    uri: Uri,
    Asked(query): Asked<ListQuery>,
) -> Result<Response, ApiError> {
    let filter = filter(query)?;
    let listed = api.store.filtered(&filter).await?;
    let shown = listed.rows.len();
    let views: Vec<View> = listed.rows.into_iter().map(View::of_row).collect();
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

/// Another page of the same list: the query as it was asked, from elsewhere on.
fn page_link(uri: &Uri, offset: i64, rel: &str) -> String {
    let asked = uri.query().unwrap_or_default().split('&');
    let kept = asked.filter(|part| !part.is_empty() && !part.starts_with("offset="));
    let offset = format!("offset={offset}");
    let query: Vec<&str> = kept.chain([offset.as_str()]).collect();
    format!("<{}?{}>; rel=\"{rel}\"", uri.path(), query.join("&"))
}

fn filter(query: ListQuery) -> Result<ClusterFilter, ApiError> {
    let wrong =
        |field: &str, msg: String, input: Value| ApiError::field("query", field, msg, input);
    let words = |field: &str, given: Option<String>, allowed: &[&str]| {
        let Some(given) = given else { return Ok(None) };
        let words: Vec<String> = given
            .split(',')
            .map(|word| word.trim().to_owned())
            .collect();
        match words
            .iter()
            .find(|word| !allowed.is_empty() && !allowed.contains(&word.as_str()))
        {
            Some(bad) => {
                let msg = format!("{field} {bad:?} is not known: use {}", allowed.join(", "));
                Err(wrong(field, msg, json!(given)))
            }
            None => Ok(Some(words)),
        }
    };
    let within = |field: &str, given: Option<i64>, least: i64, default: i64| match given {
        Some(n) if !(least..=LONGEST_PAGE).contains(&n) => {
            let msg = format!("{field} {n} is out of range: use {least} to {LONGEST_PAGE}");
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
    let wishes: Vec<&str> = Desired::ALL.iter().map(|wish| wish.as_str()).collect();
    Ok(ClusterFilter {
        // As names are.
        part: query.q.map(|part| part.to_lowercase()),
        providers: words(
            "provider",
            query.provider,
            &Provider::ALL.map(Provider::as_str),
        )?,
        desired: words("desired", query.desired, &wishes)?,
        actual: words("actual", query.actual, &states)?,
        reasons: words("reason", query.reason, &[])?,
        paused: query.paused,
        labels: json!(selector),
        order,
        limit: within("limit", query.limit, 1, LONGEST_PAGE)?,
        offset: within("offset", query.offset, 0, 0)?,
    })
}

/// One cluster with its steps; its ETag is its generation.
#[utoipa::path(get, path = "/api/clusters/{name}", tag = "clusters", security(("token" = ["read"])),
    params(("name" = String, Path)), responses((status = 200, body = Detailed), (status = 404)))]
pub(super) async fn get(
    State(api): State<Api>,
    Path(name): Path<String>,
) -> Result<Response, ApiError> {
    let cluster = known(&api, &named(&name)?).await?;
    let detailed = detailed(&api, &cluster).await?;
    Ok((etag(&cluster), Json(detailed)).into_response())
}

/// A cluster as an answer.
pub(super) fn one(cluster: &Cluster) -> Response {
    (etag(cluster), Json(View::of(cluster, None))).into_response()
}

fn etag(cluster: &Cluster) -> [(HeaderName, String); 1] {
    [(header::ETAG, format!("\"{}\"", cluster.generation))]
}

/// The state of one cluster in the old system's short form. Portainer and Argo CD are asked if
/// the cluster is registered there, which takes at most 5 s.
#[utoipa::path(get, path = "/api/clusters/{name}/status", tag = "clusters", security(("token" = ["read"])),
    params(("name" = String, Path)), responses((status = 200, body = Object), (status = 404)))]
pub(super) async fn status(
    State(api): State<Api>,
    Path(name): Path<String>,
) -> Result<Json<Value>, ApiError> {
    let cluster = known(&api, &named(&name)?).await?;
    let of = async |service, registered: bool| match registered {
        true => super::services::word(service, &api.base_domain).await,
        false => Value::from("unknown"),
    };
    let (portainer, argocd) = futures_util::future::join(
        of("portainer", cluster.spec.register_portainer),
        of("argocd", cluster.spec.register_argocd),
    )
    .await;
    Ok(Json(json!({
        "name": cluster.name,
        "status": cluster.actual,
        "nodes_ready": 0,
        "nodes_total": 0,
        "portainer_status": portainer,
        "argocd_status": argocd,
        "error_message": cluster.reconcile_error,
        "reason": cluster.status_reason,
        "message": cluster.status_message,
    })))
}
