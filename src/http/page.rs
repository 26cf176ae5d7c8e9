//! The page: the files of `web/`, embedded in the binary.
//!
//! Every other path outside the API serves `index.html`: the page renders the
//! view of its address.

use axum::body::Body;
use axum::http::{HeaderMap, Method, StatusCode, Uri, header};
use axum::response::{IntoResponse, Response};
use rust_embed::{EmbeddedFile, RustEmbed};

use super::error::ApiError;

#[derive(RustEmbed)]
#[folder = "web/"]
struct PageFiles;

const INDEX: &str = "index.html";

/// Serves a file of the page, or `index.html`.
pub(super) async fn serve(method: Method, uri: Uri, headers: HeaderMap) -> Response {
    let path = uri.path().trim_start_matches('/');
    if path == "api" || path.starts_with("api/") || path.starts_with("ws/") {
        return ApiError::NotFound(format!("{} not found", uri.path())).into_response();
    }
    if !matches!(method, Method::GET | Method::HEAD) {
        let refused = ApiError::Refused {
            status: StatusCode::METHOD_NOT_ALLOWED,
            detail: "the page allows only GET and HEAD; the API is under /api".to_owned(),
        };
        return ([(header::ALLOW, "GET,HEAD")], refused).into_response();
    }
    match PageFiles::get(path) {
        Some(file) => respond(path, &file, &headers),
        None if path.starts_with("assets/") => {
            ApiError::NotFound(format!("{} not found", uri.path())).into_response()
        }
        None => match PageFiles::get(INDEX) {
            Some(file) => respond(INDEX, &file, &headers),
            None => StatusCode::NOT_FOUND.into_response(),
        },
    }
}

fn respond(path: &str, file: &EmbeddedFile, headers: &HeaderMap) -> Response {
    let hash = file.metadata.sha256_hash();
    let tag: String = hash[..16]
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect();
    let tag = format!("\"{tag}\"");
    // The browser revalidates each time, so that a new release shows at once.
    let shared = [
        (header::ETAG, tag.clone()),
        (header::CACHE_CONTROL, "no-cache".to_owned()),
    ];
    let known = headers
        .get(header::IF_NONE_MATCH)
        .and_then(|known| known.to_str().ok());
    if known.is_some_and(|known| known.split(',').any(|one| one.trim() == tag)) {
        return (StatusCode::NOT_MODIFIED, shared).into_response();
    }
    let kind = [(header::CONTENT_TYPE, content_type(path))];
    (shared, kind, Body::from(file.data.clone())).into_response()
}

fn content_type(path: &str) -> &'static str {
    match path.rsplit_once('.').map(|(_, ending)| ending) {
        Some("html") => "text/html; charset=utf-8",
        Some("js") => "text/javascript; charset=utf-8",
        Some("css") => "text/css; charset=utf-8",
        Some("svg") => "image/svg+xml",
        Some("json" | "webmanifest") => "application/json",
        _ => "application/octet-stream",
    }
}
