//! What the hub's listener answers before there is a hub: every request is told to come again in a second.
//!
//! gRPC requests get UNAVAILABLE, others 503 with `Retry-After`. Probes are not in it: they have [`Recovery::health`].

use axum::Router;
use axum::extract::Request;

use super::{grpc, http};
use crate::app::recovery::Recovery;

impl Recovery {
    /// What the hub's listener answers while there is no hub: come again (UNAVAILABLE, 503). The probes are not in it.
    pub fn router(&self) -> Router {
        let recovery = self.clone();
        Router::new().fallback(move |request: Request| {
            let failure = recovery.failure();
            async move {
                if grpc::is_grpc(request.headers()) {
                    grpc::refusal(&failure)
                } else {
                    http::problem(&failure)
                }
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use ::http::{StatusCode, header};
    use galaxy_push_listener::Health as _;
    use tower::ServiceExt as _;

    use super::*;

    #[tokio::test]
    async fn everybody_is_told_to_come_again() {
        let recovery = Recovery::of(Path::new("data"));
        recovery.set(312 << 20, 1 << 30);
        assert_eq!(recovery.checks()[0].detail, "reading the log from data: 312 of 1024 MiB");
        let ask = |content_type: &str| {
            let request = Request::post("/push.v1.Push/SubscribePush").header("content-type", content_type);
            recovery.router().oneshot(request.body(axum::body::Body::empty()).unwrap())
        };
        let grpc = ask("application/grpc").await.unwrap();
        assert_eq!(grpc.status(), StatusCode::OK);
        assert_eq!(grpc.headers()["grpc-status"], "14");
        let problem = ask("application/json").await.unwrap();
        assert_eq!(problem.status(), StatusCode::SERVICE_UNAVAILABLE);
        assert_eq!(problem.headers()[header::RETRY_AFTER], "1");
        let body = axum::body::to_bytes(problem.into_body(), 4_096).await.unwrap();
        let body = String::from_utf8_lossy(&body);
        assert!(body.contains("STORE_UNAVAILABLE") && body.contains("312 of 1024 MiB"), "{body}");
    }
}
