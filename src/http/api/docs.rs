//! `/docs`: the OpenAPI document as a page without scripts.

use std::fmt::Write;

use serde_json::Value;

/// Renders the page.
pub(super) fn page(document: &Value) -> String {
    let mut page = String::from(
        "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\"><meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\
         <title>Kindler API</title><link rel=\"icon\" href=\"/assets/icon.svg\"><link rel=\"stylesheet\" href=\"/assets/style.css\"></head>\n\
         <body class=\"docs\"><main><h1>Kindler API</h1>\n\
         <p>For programs: <a href=\"/openapi.json\">/openapi.json</a>. Errors are <code>{\"detail\": …}</code>; \
         invalid input gets status 422 and a list with an entry for each invalid field.</p>\n",
    );
    let paths = document["paths"].as_object().into_iter().flatten();
    for (path, methods) in paths {
        for (method, operation) in methods.as_object().into_iter().flatten() {
            // Writing to a string cannot fail.
            let _ = section(&mut page, &method.to_uppercase(), path, operation);
        }
    }
    page.push_str("</main></body></html>\n");
    page
}

fn section(page: &mut String, method: &str, path: &str, operation: &Value) -> std::fmt::Result {
    let text = |value: &Value| escaped(value.as_str().unwrap_or_default());
    writeln!(page, "<h2><code>{method} {}</code></h2>", escaped(path))?;
    for part in ["summary", "description"] {
        if operation[part].is_string() {
            writeln!(page, "<p>{}</p>", text(&operation[part]))?;
        }
    }
    match operation["security"][0]["token"][0].as_str() {
        Some(scope) => writeln!(page, "<p>Scope: <code>{}</code></p>", escaped(scope))?,
        None => writeln!(page, "<p>No token required.</p>")?,
    }
    let parameters = operation["parameters"].as_array();
    if let Some(parameters) = parameters.filter(|list| !list.is_empty()) {
        writeln!(page, "<ul>")?;
        for one in parameters {
            let (name, place) = (text(&one["name"]), text(&one["in"]));
            let description = text(&one["description"]);
            writeln!(page, "<li><code>{name}</code> ({place}) {description}</li>")?;
        }
        writeln!(page, "</ul>")?;
    }
    let body = text(&operation["requestBody"]["description"]);
    if !body.is_empty() {
        writeln!(page, "<p>Body: {body}</p>")?;
    }
    let responses = operation["responses"].as_object().into_iter().flatten();
    let responses: Vec<String> = responses
        .map(|(status, one)| format!("{} {}", escaped(status), text(&one["description"])))
        .map(|response| response.trim().to_owned())
        .collect();
    writeln!(page, "<p>Responses: {}</p>", responses.join(", "))
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
        .replace('"', "&quot;")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_of_the_document_are_escaped() {
        let document = serde_json::json!({ "paths": { "/<b>": { "get": {
            "summary": "<script>alert(1)</script>", "responses": { "200": { "description": "a & b" } },
        } } } });
        let page = page(&document);
        assert!(
            !page.contains("<script>") && !page.contains("<b>"),
            "{page}"
        );
        assert!(
            page.contains("&lt;script&gt;") && page.contains("200 a &amp; b"),
            "{page}"
        );
    }
}
