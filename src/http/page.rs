//! The page: the files of `web/`, embedded in the binary.
//!
//! Every path that is neither a file nor the API is a view of the page, which
//! reads its own address.

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
struct Files;

const INDEX: &str = "index.html";

/// No file: it is made of the declaration of a spec.
const SPEC_FIELDS: &str = "assets/spec_fields.js";

/// Serves a file of the page, or the page itself.
pub(super) async fn serve(method: Method, uri: Uri, headers: HeaderMap) -> Response {
    let path = uri.path().trim_start_matches('/');
    if path == "api" || path.starts_with("api/") || path.starts_with("ws/") {
        return ApiError::NotFound(format!("{} not found", uri.path())).into_response();
    }
    if !matches!(method, Method::GET | Method::HEAD) {
        let refused = ApiError::Refused {
            status: StatusCode::METHOD_NOT_ALLOWED,
            detail: "pages can only be read; the API is below /api".to_owned(),
        };
        return ([(header::ALLOW, "GET,HEAD")], refused).into_response();
    }
    if path == SPEC_FIELDS {
        let script = spec_fields();
        let hash = Sha256::digest(&script);
        return answer(path, &hash, script.into(), &headers);
    }
    match Files::get(path) {
        Some(file) => answer_file(path, file, &headers),
        None if path.starts_with("assets/") => {
            ApiError::NotFound(format!("{} not found", uri.path())).into_response()
        }
        None => match Files::get(INDEX) {
            Some(file) => answer_file(INDEX, file, &headers),
            None => StatusCode::NOT_FOUND.into_response(),
        },
    }
}

/// The fields of a spec, for the page: a module made of their declaration.
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

fn answer_file(path: &str, file: EmbeddedFile, headers: &HeaderMap) -> Response {
    answer(
        path,
        &file.metadata.sha256_hash(),
        file.data.into(),
        headers,
    )
}

fn answer(path: &str, hash: &[u8], body: Body, headers: &HeaderMap) -> Response {
    let tag: String = hash[..16]
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect();
    let tag = format!("\"{tag}\"");
    // Asked for each time, and answered with "not modified": a new release is
    // seen at once.
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
            let file = Files::get(&format!("assets/{language}.js")).unwrap();
            let words = String::from_utf8(file.data.into_owned()).unwrap();
            for field in Spec::FIELDS {
                // A field with a dialog of its own has texts of its own.
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
