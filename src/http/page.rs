//! The page: the files of `web/`, embedded in the binary.
//!
//! Every other path outside the API serves `index.html`: the page renders the
//! view of its address.

use axum::body::Body;
use axum::http::{HeaderMap, Method, StatusCode, Uri, header};
use axum::response::{IntoResponse, Response};
use rust_embed::{EmbeddedFile, RustEmbed};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use crate::clusters::{FieldKind, Spec};

use super::error::ApiError;

#[derive(RustEmbed)]
#[folder = "web/"]
struct PageFiles;

const INDEX: &str = "index.html";

/// Generated from the declaration of a spec, not a file.
const SPEC_FIELDS: &str = "assets/spec_fields.js";

/// Serves a file of the page, or `index.html`.
pub(super) async fn serve(method: Method, uri: Uri, headers: HeaderMap) -> Response {
    let path = uri.path().trim_start_matches('/');
    if path == "api" || path.starts_with("api/") || path.starts_with("ws/") {
        return ApiError::NotFound(format!("{} not found", uri.path())).into_response();
    }
    if !matches!(method, Method::GET | Method::HEAD) {
        let rejected = ApiError::Rejected {
            status: StatusCode::METHOD_NOT_ALLOWED,
            detail: "the page allows only GET and HEAD; the API is under /api".to_owned(),
        };
        return ([(header::ALLOW, "GET,HEAD")], rejected).into_response();
    }
    if path == SPEC_FIELDS {
        let module = spec_fields();
        let hash = Sha256::digest(&module);
        return respond(path, &hash, module.into(), &headers);
    }
    match PageFiles::get(path) {
        Some(file) => respond_with_file(path, file, &headers),
        None if path.starts_with("assets/") => {
            ApiError::NotFound(format!("{} not found", uri.path())).into_response()
        }
        None => match PageFiles::get(INDEX) {
            Some(file) => respond_with_file(INDEX, file, &headers),
            None => StatusCode::NOT_FOUND.into_response(),
        },
    }
}

/// The fields of a spec as a JavaScript module.
fn spec_fields() -> String {
    let mut fields: Vec<_> = Spec::FIELDS.iter().collect();
    fields.sort_by_key(|field| field.display_order());
    let fields = fields.into_iter().map(|field| {
        let (kind, initial) = match field.kind {
            FieldKind::Provider => ("provider", None),
            FieldKind::Subnet => ("subnet", None),
            FieldKind::Port { .. } => ("port", None),
            FieldKind::Flag { default } => ("flag", Some(default)),
        };
        json!({ "name": field.api_name, "kind": kind, "main": field.main, "initial": initial })
    });
    format!("export const FIELDS = {};\n", Value::from_iter(fields))
}

fn respond_with_file(path: &str, file: EmbeddedFile, headers: &HeaderMap) -> Response {
    respond(
        path,
        &file.metadata.sha256_hash(),
        file.data.into(),
        headers,
    )
}

fn respond(path: &str, hash: &[u8], body: Body, headers: &HeaderMap) -> Response {
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
    (shared, kind, body).into_response()
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_page_has_a_text_for_every_field() {
        for language in ["en", "zh"] {
            let file = PageFiles::get(&format!("assets/{language}.js")).unwrap();
            let words = String::from_utf8(file.data.into_owned()).unwrap();
            for field in Spec::FIELDS {
                // The page has its own inputs and texts for these.
                let own = matches!(field.kind, FieldKind::Provider | FieldKind::Subnet);
                let name = field.api_name;
                assert!(
                    own || words.contains(&format!("{name}: \"")),
                    "web/assets/{language}.js: add a text for {name}"
                );
            }
        }
    }
}
