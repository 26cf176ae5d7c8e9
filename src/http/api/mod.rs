//! The API: what programs and the page read and declare.
//!
//! Paths, bodies, status codes and messages of the system that Kindler replaces
//! are kept (docs/API.md); the rest was added. Every route is described where
//! it is written, and `/openapi.json` is made of that, so the two cannot differ.

mod about;
mod actions;
mod body;
mod declare;
mod docs;
mod dry_run;
mod error;
mod history;
mod kubeconfig;
mod login;
mod logs;
mod read;
mod services;
mod socket;
mod stream;
mod tasks;
mod words;

use std::sync::Arc;

use axum::extract::FromRequestParts;
use axum::http::request::Parts;
use axum::middleware::{from_fn, from_fn_with_state};
use axum::response::Html;
use axum::routing::get;
use axum::{Json, Router};
use tokio_util::sync::CancellationToken;
use utoipa::OpenApi;
use utoipa::openapi::security::{ApiKey, ApiKeyValue, HttpAuthScheme, HttpBuilder, SecurityScheme};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::cluster::ClusterName;
use crate::command::LogDir;
use crate::live::Feed;
use crate::store::Store;

use super::Vitals;
use super::access::{Access, Rules, admit, annotate};

pub use error::{ApiError, Fault};
pub use kubeconfig::Kubeconfigs;

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
    /// Where kubeconfigs come from.
    pub kubeconfigs: Kubeconfigs,
    /// The domain under which services of clusters are found.
    pub base_domain: Arc<str>,
    /// Who is let in.
    pub access: Access,
    /// Whether nothing is reconciled here.
    pub api_only: bool,
    /// When streams end.
    pub closing: CancellationToken,
}

impl Api {
    /// The store, with the books naming who asked.
    fn declaring(&self, actor: &Actor) -> Store {
        self.store.declaring_as(&actor.0)
    }
}

/// Who asks, for the books.
#[derive(Clone, Debug)]
pub struct Actor(pub Arc<str>);

impl<S: Send + Sync> FromRequestParts<S> for Actor {
    type Rejection = std::convert::Infallible;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Self::Rejection> {
        let known = parts.extensions.get::<Self>().cloned();
        Ok(known.unwrap_or_else(|| Self("api".into())))
    }
}

/// A name from a path. One that cannot be a name is the name of no cluster.
fn named(name: &str) -> Result<ClusterName, ApiError> {
    name.parse().map_err(|_| ApiError::unknown(name))
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
    let rules = Arc::new(Rules::of_document(&description));
    let page: Arc<str> = docs::page(&description).into();
    let shown = async move || Html(page.to_string());
    let description = Arc::new(description);
    let told = move || {
        let description = description.clone();
        async move { Json((*description).clone()) }
    };
    let guard = from_fn_with_state((api.access.clone(), rules), admit);
    router
        .layer(guard)
        // After the guard, so before it for nobody: they tell nothing of this installation.
        .route("/openapi.json", get(told))
        .route("/docs", get(shown))
        .layer(from_fn(words::answer_in_time))
        .layer(from_fn(words::put_in_words))
        .with_state(api)
}
