//! The API for programs and the page.
//!
//! It keeps the paths, bodies and status codes of the system that Kindler
//! replaces (docs/API.md). `/openapi.json` is generated from the descriptions
//! beside the handlers, so that both agree.

mod about;
mod actions;
mod body;
mod declare;
mod docs;
mod dry_run;
mod expected;
mod history;
mod json_errors;
mod kubeconfig;
mod login;
mod logs;
mod lookup;
mod port_warnings;
mod read;
mod services;
mod socket;
mod spec_schema;
mod steps;
mod stream;
mod strict_input;
mod tasks;

use std::sync::Arc;

use axum::Router;
use axum::extract::FromRef;
use axum::http::header::CONTENT_TYPE;
use axum::middleware::{from_fn, from_fn_with_state};
use axum::response::Html;
use axum::routing::get;
use utoipa::OpenApi;
use utoipa::openapi::security::{ApiKey, ApiKeyValue, HttpAuthScheme, HttpBuilder, SecurityScheme};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::command::LogDir;
use crate::config::HEARTBEAT;
use crate::drivers::Driver;
use crate::live::Feed;
use crate::store::{FleetView, Store};

use super::Readiness;
use super::access::{Access, ScopeRules, annotate, authorize};
use super::actor::Actor;

use strict_input::OperationInputs;

/// The state of the handlers.
#[derive(Clone)]
pub struct Api {
    /// The database, with the role for declaring.
    pub store: Store,
    /// The clusters, with every change.
    pub feed: Feed,
    /// The logs of this host.
    pub logs: LogDir,
    /// Whether the daemon can work.
    pub readiness: Readiness,
    /// The driver of this host; `None` if this server does not reconcile.
    pub driver: Option<Arc<dyn Driver>>,
    /// The parent domain of the services of clusters.
    pub base_domain: Arc<str>,
    /// Authentication of requests.
    pub access: Access,
    /// Whether this server only serves the API and the page.
    pub api_only: bool,
}

impl FromRef<Api> for Access {
    fn from_ref(api: &Api) -> Self {
        api.access.clone()
    }
}

impl Api {
    /// The daemons, if they can be read.
    async fn fleet(&self) -> Option<Arc<FleetView>> {
        self.store.recent_fleet(HEARTBEAT).await
    }

    /// The store, with this actor for the audit log.
    fn declaring(&self, actor: &Actor) -> Store {
        self.store.declaring_as(&actor.0)
    }
}

#[derive(OpenApi)]
#[openapi(
    info(
        title = "Kindler",
        description = "Reconciles local Kubernetes clusters with rows of Postgres."
    ),
    modifiers(&SecuritySchemes)
)]
struct ApiDocument;

/// The security schemes of the document.
struct SecuritySchemes;

impl utoipa::Modify for SecuritySchemes {
    fn modify(&self, document: &mut utoipa::openapi::OpenApi) {
        let bearer = HttpBuilder::new().scheme(HttpAuthScheme::Bearer).build();
        let cookie = ApiKeyValue::with_description(
            "kindler_session",
            "set by /api/login; over TLS its name has the prefix __Host-; a change also needs the header X-Kindler-CSRF",
        );
        let components = document.components.get_or_insert_default();
        components.add_security_scheme("token", SecurityScheme::Http(bearer));
        let cookie = SecurityScheme::ApiKey(ApiKey::Cookie(cookie));
        components.add_security_scheme("login", cookie);
    }
}

/// Every route, with its description.
pub(super) fn router(api: Api) -> Router {
    let (router, document) = OpenApiRouter::with_openapi(ApiDocument::openapi())
        .routes(routes!(about::health))
        .routes(routes!(about::config))
        .routes(routes!(about::suggest))
        .routes(routes!(about::status))
        .routes(routes!(read::list, declare::create))
        .routes(routes!(read::get, declare::change, declare::delete))
        .routes(routes!(read::status))
        .routes(routes!(steps::steps))
        .routes(routes!(declare::batch))
        .routes(routes!(actions::retry))
        .routes(routes!(actions::adopt))
        .routes(routes!(actions::recreate))
        .routes(routes!(actions::pause))
        .routes(routes!(actions::resume))
        .routes(routes!(actions::start))
        .routes(routes!(actions::stop))
        .routes(routes!(actions::rollback))
        .routes(routes!(history::audit))
        .routes(routes!(history::of_cluster))
        .routes(routes!(history::revisions))
        .routes(routes!(history::diff))
        .routes(routes!(logs::log))
        .routes(routes!(kubeconfig::kubeconfig))
        .routes(routes!(services::services))
        .routes(routes!(tasks::read))
        .routes(routes!(stream::stream))
        .routes(routes!(socket::tasks))
        .routes(routes!(login::session))
        .routes(routes!(login::login))
        .routes(routes!(login::logout))
        .routes(routes!(login::tokens))
        .split_for_parts();
    let mut document = serde_json::json!(document);
    annotate(&mut document);
    spec_schema::describe(&mut document);
    let rules = Arc::new(ScopeRules::of_document(&document));
    let inputs = Arc::new(OperationInputs::of_document(&document));
    // Few clients ask for these: a start does not wait for their texts.
    let document = Arc::new(document);
    let documented = document.clone();
    let page = async move || Html(docs::page(&documented));
    let json = [(CONTENT_TYPE, "application/json")];
    let openapi = async move || (json, document.to_string());
    let authorized = from_fn_with_state((api.access.clone(), rules), authorize);
    router
        .layer(from_fn_with_state(inputs, strict_input::reject_unknown))
        .layer(authorized)
        // Routes added after the layer need no credential: these two are public.
        .route("/openapi.json", get(openapi))
        .route("/docs", get(page))
        .layer(from_fn(json_errors::time_out))
        .layer(from_fn(json_errors::json_errors))
        .with_state(api)
}
