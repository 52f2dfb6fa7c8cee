//! `/livez`, `/readyz` and `/healthz`, in the manner of Kubernetes.

use std::fmt::Write as _;
use std::sync::Arc;

use axum::Router;
use axum::extract::RawQuery;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use http::{StatusCode, header};

use crate::problem::problem;

/// What a role says of itself.
pub trait Health: Send + Sync + 'static {
    /// Its checks, in the order they are shown. Called on every probe: must be cheap and must not wait.
    fn checks(&self) -> Vec<Check>;
}

/// One thing that is well or not.
#[derive(Clone, Debug)]
pub struct Check {
    /// Its name, `[a-z-]`.
    pub name: &'static str,
    /// Whether it is well.
    pub ok: bool,
    /// Whether readiness depends on it. The rest is shown, no more.
    pub needed: bool,
    /// For whoever reads it at night: what is, and since when.
    pub detail: String,
}

/// The probes of a role. `/livez` says that the process answers and never looks at a dependency; `/readyz` says whether
/// to send it work, with the reasons behind `?verbose`; `/healthz` is another name for `/readyz`.
pub fn probes(health: Arc<dyn Health>) -> Router {
    answering(move |query| readiness(&health.checks(), query))
}

/// The same where anybody may ask: without the reasons, which name hubs and positions.
pub fn terse_probes(health: Arc<dyn Health>) -> Router {
    answering(move |_| readiness(&health.checks(), ""))
}

fn answering(ready: impl Fn(&str) -> Response + Clone + Send + Sync + 'static) -> Router {
    let ready = move |RawQuery(query): RawQuery| {
        let answer = ready(query.as_deref().unwrap_or_default());
        async move { answer }
    };
    Router::new()
        .route("/livez", get(|| async { text(StatusCode::OK, "ok\n".into()) }))
        .route("/readyz", get(ready.clone()))
        .route("/healthz", get(ready))
        .method_not_allowed_fallback(|| async {
            problem(StatusCode::METHOD_NOT_ALLOWED, METHOD_NOT_ALLOWED, None)
        })
}

/// Whether a path is that of a probe, over HTTP or gRPC.
#[must_use]
pub fn is_probe(path: &str) -> bool {
    matches!(path, "/livez" | "/readyz" | "/healthz" | "/grpc.health.v1.Health/Check")
}

const METHOD_NOT_ALLOWED: &str = r#"{"type":"about:blank","title":"Method Not Allowed","status":405,"detail":"probes are asked with GET"}"#;

fn readiness(checks: &[Check], query: &str) -> Response {
    let missing: Vec<_> = checks.iter().filter(|check| check.needed && !check.ok).collect();
    let status = if missing.is_empty() { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    let verbose = query.split('&').any(|part| part.split('=').next() == Some("verbose"));
    let mut body = String::new();
    if verbose {
        for check in checks {
            let mark = if check.ok { "+" } else { "-" };
            let note = if check.needed || check.ok { "" } else { " (not needed to be ready)" };
            let _ = writeln!(body, "[{mark}]{} {}{note}", check.name, check.detail);
        }
    }
    if missing.is_empty() {
        body.push_str("ok\n");
    } else {
        let names: Vec<_> = missing.iter().map(|check| check.name).collect();
        let _ = writeln!(body, "not ready: {}", names.join(", "));
    }
    text(status, body)
}

fn text(status: StatusCode, body: String) -> Response {
    let headers = [(header::CONTENT_TYPE, "text/plain; charset=utf-8"), (header::CACHE_CONTROL, "no-store")];
    (status, headers, body).into_response()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(name: &'static str, ok: bool, needed: bool) -> Check {
        Check { name, ok, needed, detail: "since start".into() }
    }

    async fn body(response: Response) -> String {
        let bytes = axum::body::to_bytes(response.into_body(), 4096).await.unwrap();
        String::from_utf8(bytes.to_vec()).unwrap()
    }

    #[tokio::test]
    async fn another_method_is_told_in_the_words_of_all_refusals() {
        use tower::ServiceExt as _;

        struct Well;
        impl Health for Well {
            fn checks(&self) -> Vec<Check> {
                Vec::new()
            }
        }
        for path in ["/livez", "/readyz", "/healthz"] {
            let request = http::Request::post(path).body(axum::body::Body::empty()).unwrap();
            let app = Router::new().merge(probes(Arc::new(Well)));
            let response = app.oneshot(request).await.unwrap();
            assert_eq!(response.status(), StatusCode::METHOD_NOT_ALLOWED);
            assert_eq!(response.headers()[header::CONTENT_TYPE], "application/problem+json");
            assert_eq!(response.headers()[header::ALLOW], "GET,HEAD");
        }
    }

    #[tokio::test]
    async fn strangers_are_told_no_reasons() {
        use tower::ServiceExt as _;

        struct Away;
        impl Health for Away {
            fn checks(&self) -> Vec<Check> {
                vec![check("hub", false, false), check("caught-up", false, true)]
            }
        }
        let request = http::Request::get("/readyz?verbose").body(axum::body::Body::empty()).unwrap();
        let response = terse_probes(Arc::new(Away)).oneshot(request).await.unwrap();
        assert_eq!(body(response).await, "not ready: caught-up\n");
    }

    #[tokio::test]
    async fn only_needed_checks_make_a_role_unready() {
        let ready = readiness(&[check("window", true, true), check("hub", false, false)], "verbose");
        assert_eq!(ready.status(), StatusCode::OK);
        assert_eq!(
            body(ready).await,
            "[+]window since start\n[-]hub since start (not needed to be ready)\nok\n"
        );
        let unready = readiness(&[check("caught-up", false, true)], "");
        assert_eq!(unready.status(), StatusCode::SERVICE_UNAVAILABLE);
        assert_eq!(body(unready).await, "not ready: caught-up\n");
    }
}
