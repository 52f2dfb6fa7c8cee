//! A hub that is not there yet: it reads its log from the disk, or from brokers.
//!
//! Made by whoever opens the hub, before; told by [`on_disk`](crate::on_disk) or `on_nats` how far it is; asked by probes, and by whoever
//! serves the listener meanwhile. It knows nothing of what is in the log.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use axum::Router;
use axum::extract::Request;
use galaxy_push_listener::{Check, Health};
use galaxy_push_proto::{Failure, Reason};
use galaxy_push_store::{Error, Refused};

use crate::{grpc, http};

/// How soon whoever comes meanwhile may come again.
const RETRY_AFTER: Duration = Duration::from_secs(1);

/// Why a log was not opened, with everything that led to it.
pub(crate) fn not_opened(error: &dyn std::error::Error) -> Error {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(error) = source {
        text = format!("{text}: {error}");
        source = error.source();
    }
    Refused::NotOpened(text).into()
}

/// How far a hub has come in reading its log. Cheap to clone: clones are the same one.
#[derive(Clone, Debug, Default)]
pub struct Recovery(Arc<State>);

#[derive(Debug, Default)]
struct State {
    place: String,
    bytes: AtomicU64,
    bytes_total: AtomicU64,
}

impl Recovery {
    /// Of the log in this folder.
    #[must_use]
    pub fn of(folder: &Path) -> Self {
        Self::reading(folder.display().to_string())
    }

    /// Of a log that is read from elsewhere, as people call it.
    #[must_use]
    pub fn reading(place: String) -> Self {
        Self(Arc::new(State { place, ..State::default() }))
    }

    /// What the probes are told while there is no hub: that it is not ready, and how far it is.
    #[must_use]
    pub fn health(&self) -> Arc<dyn Health> {
        Arc::new(self.clone())
    }

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

    pub(crate) fn set(&self, bytes: u64, bytes_total: u64) {
        self.0.bytes.store(bytes, Ordering::Relaxed);
        self.0.bytes_total.store(bytes_total, Ordering::Relaxed);
    }

    /// MiB read, and to be read.
    fn mebibytes(&self) -> (u64, u64) {
        let mebibytes = |bytes: &AtomicU64| bytes.load(Ordering::Relaxed) >> 20;
        (mebibytes(&self.0.bytes), mebibytes(&self.0.bytes_total))
    }

    fn failure(&self) -> Failure {
        let (read, all) = self.mebibytes();
        let message = format!("the hub starts and reads its log ({read} of {all} MiB): try again soon");
        Failure::new(Reason::StoreUnavailable, message).retry_after(RETRY_AFTER)
    }
}

impl Health for Recovery {
    fn checks(&self) -> Vec<Check> {
        let (read, all) = self.mebibytes();
        let detail = match self.0.place.as_str() {
            "" => "starting".to_owned(),
            place => format!("reading the log from {place}: {read} of {all} MiB"),
        };
        vec![Check { name: "hub", ok: false, needed: true, detail }]
    }
}

#[cfg(test)]
mod tests {
    use ::http::{StatusCode, header};
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
