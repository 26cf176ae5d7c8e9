//! The API: what programs and the page read and declare.
//!
//! Paths, bodies, status codes and messages of the system that Kindler replaces
//! are kept (docs/API.md); the rest was added. Every route is described where
//! it is written, and `/openapi.json` is made of that, so the two cannot differ.

mod about;
mod actions;
mod body;
mod declare;
mod described;
mod docs;
mod dry_run;
mod expected;
mod history;
mod kubeconfig;
mod login;
mod logs;
mod named;
mod read;
mod services;
mod socket;
mod spec_schema;
mod steps;
mod stream;
mod tasks;
mod words;

use std::sync::Arc;

use axum::extract::FromRef;
use axum::middleware::{from_fn, from_fn_with_state};
use axum::response::Html;
use axum::routing::get;
use axum::{Json, Router};
use utoipa::OpenApi;
use utoipa::openapi::security::{ApiKey, ApiKeyValue, HttpAuthScheme, HttpBuilder, SecurityScheme};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::command::LogDir;
use crate::drivers::Driver;
use crate::live::Feed;
use crate::store::Store;

use super::Vitals;
use super::access::{Access, Rules, admit, annotate};
use super::actor::Actor;

use described::Described;

/// What the handlers work with.
#[derive(Clone)]
pub struct Api {
    /// The database, under the role that may declare.
    pub store: Store,
    /// The clusters as they change.
    pub feed: Feed,
    /// Where the logs of this host lie.
    pub logs: LogDir,
    /// How this server does.
    pub vitals: Vitals,
    /// What makes the clusters of this host; none where nothing is reconciled.
    pub driver: Option<Arc<dyn Driver>>,
    /// The domain under which services of clusters are found.
    pub base_domain: Arc<str>,
    /// Who is let in.
    pub access: Access,
    /// Whether nothing is reconciled here.
    pub api_only: bool,
}

impl FromRef<Api> for Access {
    fn from_ref(api: &Api) -> Self {
        api.access.clone()
    }
}

impl Api {
    /// The store, with the books naming who asked.
    fn declaring(&self, actor: &Actor) -> Store {
        self.store.declaring_as(&actor.0)
    }
}

#[derive(OpenApi)]
#[openapi(
    info(
        title = "Kindler",
        description = "Local Kubernetes clusters, declared as rows of Postgres and kept as declared."
    ),
    modifiers(&Tokens)
)]
struct Description;

/// How a program says who it is.
struct Tokens;

impl utoipa::Modify for Tokens {
    fn modify(&self, document: &mut utoipa::openapi::OpenApi) {
        let bearer = HttpBuilder::new().scheme(HttpAuthScheme::Bearer).build();
        let cookie = ApiKeyValue::with_description(
            "kindler_session",
            "from /api/login, over TLS with __Host- before its name; whatever changes something needs the header X-Kindler-CSRF too",
        );
        let components = document.components.get_or_insert_default();
        components.add_security_scheme("token", SecurityScheme::Http(bearer));
        let cookie = SecurityScheme::ApiKey(ApiKey::Cookie(cookie));
        components.add_security_scheme("login", cookie);
    }
}

/// Every route, with its description.
pub(super) fn router(api: Api) -> Router {
    let (router, description) = OpenApiRouter::with_openapi(Description::openapi())
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
    let mut description = serde_json::json!(description);
    annotate(&mut description);
    spec_schema::describe(&mut description);
    let rules = Arc::new(Rules::of_document(&description));
    let described = Arc::new(Described::of_document(&description));
    let page: Arc<str> = docs::page(&description).into();
    let shown = async move || Html(page.to_string());
    let description = Arc::new(description);
    let told = move || {
        let description = description.clone();
        async move { Json((*description).clone()) }
    };
    let guard = from_fn_with_state((api.access.clone(), rules), admit);
    router
        .layer(from_fn_with_state(described, described::keep))
        .layer(guard)
        // After the guard, so before it for nobody: they tell nothing of this installation.
        .route("/openapi.json", get(told))
        .route("/docs", get(shown))
        .layer(from_fn(words::answer_in_time))
        .layer(from_fn(words::put_in_words))
        .with_state(api)
}
