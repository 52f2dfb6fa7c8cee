//! The try-it page of the development mode: plain files, part of the binary.

use axum::extract::rejection::PathRejection;
use axum::extract::{Path, State};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};
use galaxy_push_proto::Failure;
use http::header::{self, HeaderName};
use tonic::Code;

use super::problem;

/// Names and contents, collected by the build script.
static FILES: &[(&str, &[u8])] = include!(concat!(env!("OUT_DIR"), "/page.rs"));

/// Nothing from elsewhere, nothing inline, no frame around it.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; \
                      base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

/// `/` and everything below `/tryit/`. `hub`: where publishers find the hub, if that is shown.
pub(crate) fn routes(hub: Option<String>) -> Router {
    Router::new()
        .route("/", get(|| async { file("index.html") }))
        .route("/tryit/hub.json", get(shown_hub))
        .route("/tryit/{*file}", get(below))
        .with_state(hub)
}

/// Where `galaxy-push publish` finds the hub, so that the commands which the page shows can be pasted as they stand.
async fn shown_hub(State(hub): State<Option<String>>) -> Response {
    let headers = [(header::X_CONTENT_TYPE_OPTIONS, "nosniff"), (header::CACHE_CONTROL, "no-cache")];
    (headers, Json(serde_json::json!({ "hub": hub }))).into_response()
}

/// A path that is no text names no file either.
async fn below(name: Result<Path<String>, PathRejection>) -> Response {
    file(name.as_ref().map_or("", |Path(name)| name))
}

fn file(name: &str) -> Response {
    let Some((_, content)) = FILES.iter().find(|(known, _)| *known == name) else {
        let message = "the try-it page has no such file";
        return problem::response(&Failure::without_reason(Code::NotFound, message));
    };
    let headers: [(HeaderName, &str); 6] = [
        (header::CONTENT_TYPE, media_type(name)),
        (header::CONTENT_SECURITY_POLICY, POLICY),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::REFERRER_POLICY, "no-referrer"),
        // Another build of the same version may have other files: always ask.
        (header::CACHE_CONTROL, "no-cache"),
        (HeaderName::from_static("cross-origin-opener-policy"), "same-origin"),
    ];
    (headers, *content).into_response()
}

fn media_type(name: &str) -> &'static str {
    match name.rsplit('.').next().unwrap_or_default() {
        "html" => "text/html; charset=utf-8",
        "js" => "text/javascript; charset=utf-8",
        "css" => "text/css; charset=utf-8",
        "svg" => "image/svg+xml",
        "png" => "image/png",
        "json" => "application/json",
        _ => "application/octet-stream",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_file_that_the_page_names_is_there_and_has_a_type() {
        let index = FILES.iter().find(|(name, _)| *name == "index.html").expect("the page has an index").1;
        let index = std::str::from_utf8(index).unwrap();
        let named: Vec<&str> =
            index.split("\"/tryit/").skip(1).filter_map(|rest| rest.split('"').next()).collect();
        assert!(named.contains(&"main.js"));
        for name in named {
            let response = file(name);
            assert_eq!(response.status(), 200, "{name}");
            assert_ne!(response.headers()[header::CONTENT_TYPE], "application/octet-stream", "{name}");
            assert_eq!(response.headers()[header::CONTENT_SECURITY_POLICY], POLICY);
        }
        assert_eq!(file("../Cargo.toml").status(), 404);
        assert_eq!(file("nothing").status(), 404);
    }
}
