//! Who makes a request, and whether its role may make it.
//!
//! The gRPC services ask at each call, so that they are guarded wherever they are mounted; one layer of the router asks for
//! everything else. A method or path that is not listed here is for nobody.
//!
//! | role | may call |
//! |---|---|
//! | publisher | `Publish`, `PublishStream`, `Invalidate`, `SetMembership`, `Head`, and their HTTP forms |
//! | gateway | `SubscribePush`, `Replay`, `Report`, `Head` |
//! | operator | `SubscribePush` under any id, `Replay`, `Head` |
//! | nobody in particular | `grpc.health.v1`, because load balancers have no certificate |
//!
//! A token that is presented must be good: nobody is let in by a certificate instead. Where the hub knows nobody, everybody
//! may call everything. Scopes and rates are checked later, by what a request holds (`state/access.rs`).

use std::sync::Arc;
use std::time::Duration;

use axum::extract::{Request, State};
use axum::middleware::Next;
use axum::response::Response;
use galaxy_push_listener::{ConnectionHandle, NoSlot, NotBearer, Peer, PeerNames, bearer, shown_path};
use galaxy_push_proto::{Failure, Reason};
use http::{Extensions, HeaderMap};

use crate::app::shared::Shared;
use crate::state::access::{Caller, Credential, Fingerprint, InProcess, Role};
use crate::surface::grpc;
use crate::surface::http as plain;

/// How soon a slot of the listener may be free again.
const FULL_RETRY: Duration = Duration::from_secs(1);

/// Whatever appends.
pub(crate) const PUBLISHERS: &[Role] = &[Role::Publisher];
/// Whatever reads the log.
const READERS: &[Role] = &[Role::Gateway, Role::Operator];
/// What only a gateway can say.
const GATEWAYS: &[Role] = &[Role::Gateway];
/// Everybody known.
const ALL: &[Role] = &[Role::Publisher, Role::Gateway, Role::Operator];
/// Methods that are not served.
const NOBODY: &[Role] = &[];

/// Whom a method of `push.v1.Push` is for.
pub(crate) fn of_push(method: &str) -> &'static [Role] {
    match method {
        "SubscribePush" | "Replay" => READERS,
        "Report" => GATEWAYS,
        _ => NOBODY,
    }
}

/// Whom a method of `push.v1.Publisher` is for.
pub(crate) fn of_publisher(method: &str) -> &'static [Role] {
    match method {
        "Publish" | "PublishStream" | "Invalidate" | "SetMembership" => PUBLISHERS,
        "Head" => ALL,
        _ => NOBODY,
    }
}

/// Whom any other path is for; `None`: it asks for nobody, or asks for itself.
fn of_path(path: &str) -> Option<&'static [Role]> {
    match path {
        "/v1/events" | "/v1/invalidations" | "/v1/memberships" => Some(PUBLISHERS),
        "/v1/head" => Some(ALL),
        // Says whether the hub serves, and nothing else: for load balancers, which have no certificate.
        _ if path.starts_with("/grpc.health.v1.Health/") => None,
        _ if path.starts_with("/grpc.reflection.") => Some(ALL),
        _ if path.starts_with("/push.v1.Push/") || path.starts_with("/push.v1.Publisher/") => None,
        _ => Some(NOBODY),
    }
}

/// Who makes a request that these roles may make.
///
/// # Errors
///
/// It is nobody known (UNAUTHENTICATED), or not for this (PERMISSION_DENIED). That is counted and logged. Or there is no
/// place for it (UNAVAILABLE).
pub(crate) fn admit(
    shared: &Shared,
    headers: &HeaderMap,
    extensions: &Extensions,
    path: &str,
    roles: &[Role],
) -> Result<Caller, Failure> {
    let access = shared.access.get();
    let admitted = access.identify(&credential(headers, extensions), roles).inspect_err(|failure| {
        shared.metrics.peer_refused(failure);
        let peer = extensions.get::<Peer>().map(|peer| peer.0);
        if let Some(left_out) = shared.refused(peer.map(|peer| peer.ip())) {
            let peer = peer.map_or_else(|| "unknown".to_owned(), |peer| peer.to_string());
            let path = shown_path(path);
            tracing::warn!(%peer, path, code = ?failure.code, reason = %failure, left_out, "peer refused");
        }
    })?;
    if let Some(handle) = extensions.get::<ConnectionHandle>() {
        // A peer that has shown who it is moves to a slot of its own. The listener logs once that all of them are taken.
        handle.authenticate_as(access.quota_key(&admitted).as_ref()).map_err(|full| {
            let message = match full {
                NoSlot::All => full.to_string(),
                NoSlot::Own => format!("{}: {full}", admitted.name()),
            };
            Failure::new(Reason::Overloaded, message).retry_after(FULL_RETRY)
        })?;
    }
    Ok(admitted)
}

/// Stands before every route that does not ask by itself, and leaves the [`Caller`] with the request.
pub(crate) async fn guard(State(shared): State<Arc<Shared>>, mut request: Request, next: Next) -> Response {
    if let Some(roles) = of_path(request.uri().path()) {
        let path = request.uri().path();
        match admit(&shared, request.headers(), request.extensions(), path, roles) {
            Ok(caller) => _ = request.extensions_mut().insert(caller),
            Err(failure) if grpc::is_grpc(request.headers()) => return grpc::refusal(&failure),
            Err(failure) => {
                plain::drain_http2_body(request.version(), request.into_body()).await;
                return plain::problem(&failure);
            }
        }
    }
    next.run(request).await
}

/// What a request shows to be recognised by.
fn credential(headers: &HeaderMap, extensions: &Extensions) -> Credential {
    if let Some(in_process) = extensions.get::<InProcess>() {
        return Credential::InProcess(in_process.clone());
    }
    // A token that is presented must be good: nobody is let in by a certificate instead.
    match bearer(headers) {
        Ok(Some(token)) => return Credential::Token(Some(Fingerprint::of(token))),
        Err(NotBearer) => return Credential::Token(None),
        Ok(None) => {}
    }
    Credential::Certificate(extensions.get::<PeerNames>().map(|names| names.0.clone()))
}

#[cfg(test)]
mod tests;
