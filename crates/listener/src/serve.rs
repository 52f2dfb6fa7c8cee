//! The accept loop and the life of one connection.
//!
//! [`serve`] owns the socket and a tracker of connection tasks; each task owns its connection. Neither queues anything:
//! what is not accepted waits in the kernel.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::response::IntoResponse as _;
use galaxy_push_core::FOR_EVER;
use http::{HeaderMap, Request, Response, StatusCode, Version, header};
use hyper::body::{Body as _, Incoming};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto::Builder;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tower::ServiceExt as _;

use crate::answered::{Answered, watched};
use crate::damped::Damped;
use crate::pages::unsniffed;
use crate::places::{House, Place, Places, Visitor};
use crate::seated::Seated;
use crate::tls::{self, PeerNames, Tls};
use crate::watched::{Asked, Outflow, Patience, Watched};
use crate::{Accept, Limits};

/// After a failed accept (no file descriptor left, most likely) the loop waits this long: short enough to be back at
/// once, long enough not to spin.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// A TLS handshake takes this long at most.
const HANDSHAKE: Duration = Duration::from_secs(5);

/// Whoever is refused has this long to hear why, and may send so much meanwhile.
const HEARD_OUT: Duration = Duration::from_secs(1);
const HEARD_OUT_BYTES: u64 = 64 << 10;

/// The address of the peer, in the extensions of every request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Peer(pub SocketAddr);

/// How a listener is told to end.
#[derive(Clone, Debug, Default)]
pub struct Drain {
    /// Take no more connections; tell peers to go (GOAWAY); wait for requests to finish. The app ends its own streams.
    pub draining: CancellationToken,
    /// Drop whatever is left.
    pub deadline: CancellationToken,
}

/// Goodbyes take this long at most, until the connection is closed all the same.
const CLOSING: Duration = Duration::from_secs(1);

/// During a drain it is looked this often for connections whose app waits for nothing on them.
const GIVEN_UP: Duration = Duration::from_millis(250);

const NO_PLACE: &str = "every place on this listener is taken: come back in a moment";

/// Serves `app` over TLS as [`serve`] does without. Peers that present a certificate are named by [`PeerNames`].
pub async fn serve_tls(accept: impl Accept, tls: Arc<Tls>, app: Router, limits: Limits, drain: Drain) {
    let places = Places::new("tls", &limits, House::default());
    serve_at(accept, Some(tls), app, limits, places, drain).await;
}

/// Serves `app` until the drain is over. Returns once every connection has ended.
///
/// Cancel safe in the plain sense: dropping it closes the socket and, with it, every connection.
pub async fn serve(accept: impl Accept, app: Router, limits: Limits, drain: Drain) {
    let places = Places::new("plain", &limits, House::default());
    serve_at(accept, None, app, limits, places, drain).await;
}

/// Serves as [`serve`] or, with TLS, [`serve_tls`], to whoever gets one of these places.
pub async fn serve_at<A: Accept>(
    mut accept: A,
    tls: Option<Arc<Tls>>,
    app: Router,
    limits: Limits,
    places: Places,
    drain: Drain,
) {
    let limits = limits.reckonable();
    let (http, app) = (Arc::new(protocol(&limits)), unsniffed(app));
    let refusals = Arc::new(Damped::default());
    let patience =
        Patience { write_stall: limits.write_stall, silence: limits.keepalive + limits.keepalive_timeout };
    let tasks = TaskTracker::new();
    let mut failing = false;
    loop {
        let accepted = tokio::select! {
            biased;
            () = drain.draining.cancelled() => break,
            accepted = next(&mut accept, &places, &mut failing) => accepted,
        };
        let Some((io, peer, place)) = accepted else { continue };
        let outflow = Outflow::default();
        let io = Watched::new(
            io,
            patience,
            outflow.clone(),
            Asked { on_blocked: A::fell_behind, unacked: A::unacked },
        );
        let (http, app, drain, tls) = (http.clone(), app.clone(), drain.clone(), tls.clone());
        let refusals = refusals.clone();
        tasks.spawn(async move {
            let caller = Caller { peer, names: None, outflow, place };
            match tls {
                None => connection(&http, io, caller, app, drain).await,
                Some(tls) => secured(&http, (&tls, &refusals), io, caller, app, drain).await,
            }
        });
    }
    drop(accept);
    tasks.close();
    tasks.wait().await;
}

/// The next connection. Says when it begins to fail and when it works again, and not each time between.
async fn next<A: Accept>(
    accept: &mut A,
    places: &Places,
    failing: &mut bool,
) -> Option<(A::Io, SocketAddr, Place)> {
    match accept.accept().await {
        Ok((io, peer)) => {
            if std::mem::take(failing) {
                tracing::info!("connections are accepted again");
            }
            // Nobody has to give way before somebody comes. Those behind wait in the kernel.
            places.wait().await;
            let place = places.enter(peer.ip());
            if place.is_none() {
                tracing::debug!(%peer, "closed: its address has as many places as strangers of one may have");
            }
            Some((io, peer, place?))
        }
        Err(error) => {
            if !std::mem::replace(failing, true) {
                tracing::warn!(%error, pause = ?ACCEPT_PAUSE, "cannot accept connections; trying on");
            }
            sleep(ACCEPT_PAUSE).await;
            None
        }
    }
}

fn protocol(limits: &Limits) -> Builder<TokioExecutor> {
    let mut http = Builder::new(TokioExecutor::new());
    // Its own timeout would end a connection that rests between requests; how long a head may take, its place says.
    http.http1().timer(TokioTimer::new()).header_read_timeout(None).max_buf_size(limits.head);
    http.http2()
        .timer(TokioTimer::new())
        .max_concurrent_streams(limits.h2_streams)
        .initial_stream_window_size(limits.h2_stream_window)
        .initial_connection_window_size(limits.h2_connection_window)
        .max_frame_size(limits.h2_frame)
        .max_send_buf_size(limits.h2_send_buffer)
        .max_header_list_size(u32::try_from(limits.head).unwrap_or(u32::MAX))
        .max_pending_accept_reset_streams(20)
        .max_local_error_reset_streams(128)
        .keep_alive_interval(limits.keepalive)
        // An answer may wait behind much else, which hyper does not see: `Watched` judges by bytes.
        .keep_alive_timeout(FOR_EVER);
    http
}

/// Who is at the other end.
struct Caller {
    peer: SocketAddr,
    names: Option<PeerNames>,
    outflow: Outflow,
    place: Place,
}

async fn secured<I>(
    http: &Builder<TokioExecutor>,
    (tls, refusals): (&Arc<Tls>, &Damped),
    io: I,
    mut caller: Caller,
    app: Router,
    drain: Drain,
) where
    I: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let peer = caller.peer;
    let handshake = tokio::select! {
        biased;
        () = drain.draining.cancelled() => return, // nobody has asked anything yet
        () = caller.place.visitor().gives_way() => return,
        handshake = timeout(HANDSHAKE, tls.acceptor().await.accept(io).into_fallible()) => handshake,
    };
    let io = match handshake {
        Ok(Ok(io)) => io,
        Ok(Err((error, io))) => {
            if let Some(left_out) = refusals.count(&peer.ip().to_string()) {
                tracing::info!(%peer, %error, left_out, "refused: the TLS handshake failed");
            }
            return hear_out(io, &drain).await;
        }
        Err(_) => {
            if let Some(left_out) = refusals.count(&peer.ip().to_string()) {
                tracing::info!(%peer, left_out, "refused: no TLS handshake in time");
            }
            return;
        }
    };
    caller.names = io.get_ref().1.peer_certificates().and_then(<[_]>::first).map(tls::names);
    connection(http, io, caller, app, drain).await;
}

/// Reads on for a moment, so that the peer reads why it was refused: to close with its bytes unread would reset the
/// connection, and what was said last with it.
async fn hear_out(mut io: impl AsyncRead + AsyncWrite + Unpin, drain: &Drain) {
    let reading = async {
        let _ = io.shutdown().await; // it may be gone, which is as well
        let mut rest = (&mut io).take(HEARD_OUT_BYTES);
        let _ = tokio::io::copy(&mut rest, &mut tokio::io::sink()).await;
    };
    tokio::select! {
        biased;
        () = drain.draining.cancelled() => {}
        _ = timeout(HEARD_OUT, reading) => {}
    }
}

async fn connection<I>(http: &Builder<TokioExecutor>, io: I, from: Caller, app: Router, drain: Drain)
where
    I: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let Caller { peer, names, outflow, place } = from;
    let visitor = place.visitor().clone();
    let io = TokioIo::new(Seated::new(io, place));
    let guest = visitor.clone();
    let service = hyper::service::service_fn(move |mut request: Request<Incoming>| {
        request.extensions_mut().insert(Peer(peer));
        request.extensions_mut().insert(outflow.clone());
        if request.version() == Version::HTTP_2 {
            outflow.answers_pings();
        }
        if let Some(names) = &names {
            request.extensions_mut().insert(names.clone());
        }
        answer(&guest, app.clone(), request)
    });
    let mut connection = pin!(http.serve_connection_with_upgrades(io, service));

    let (mut leaving, mut closing) = (false, false);
    loop {
        tokio::select! {
            biased;
            () = drain.deadline.cancelled() => return,
            () = visitor.gives_way() => return tracing::debug!(%peer, "closed: it has to leave, or gave way to others"),
            // What it asked at the last moment is answered all the same.
            () = sleep(CLOSING), if closing => match visitor.is_over() {
                true => return,
                false => continue,
            },
            () = drain.draining.cancelled(), if !leaving => leaving = true,
            () = sleep(GIVEN_UP), if leaving && !closing => match visitor.is_given_up() {
                true => return tracing::debug!(%peer, "closed: it does not take what it asked for"),
                false => continue,
            },
            ended = connection.as_mut() => return log_end(peer, ended),
            () = visitor.overstays(), if !leaving => {
                tracing::debug!(%peer, "closed: it asks nothing");
                (leaving, closing) = (true, true);
            }
        }
        connection.as_mut().graceful_shutdown();
    }
}

/// Has the app answer, unless the place that the peer has is not for that.
fn answer(
    visitor: &Visitor,
    app: Router,
    request: Request<Incoming>,
) -> impl Future<Output = Result<Response<Answered>, Infallible>> + use<> {
    let is_http1 = request.version() < Version::HTTP_2;
    let begun = visitor.begin(is_http1, is_http1 && request.body().is_end_stream());
    let (mut head, body) = request.into_parts();
    head.extensions.insert(visitor.asking(&head));
    let may_ask = visitor.may_ask(&head);
    async move {
        if !may_ask {
            return Ok(watched(no_place(&head.headers), begun));
        }
        let request = Request::from_parts(head, Body::new(body));
        Ok(watched(app.oneshot(request).await.unwrap_or_else(|never| match never {}), begun))
    }
}

fn no_place(asked: &HeaderMap) -> Response<Body> {
    let content_type = asked.get(header::CONTENT_TYPE).map_or(&b""[..], |value| value.as_bytes());
    if content_type.starts_with(b"application/grpc") {
        let headers = [
            ("content-type", "application/grpc"),
            ("grpc-status", "14"),
            ("grpc-message", NO_PLACE),
            ("x-content-type-options", "nosniff"),
        ];
        return headers.into_response();
    }
    let problem = format!(
        r#"{{"type":"about:blank","title":"Service Unavailable","status":503,"detail":"{NO_PLACE}"}}"#
    );
    let headers = [
        (header::CONTENT_TYPE, "application/problem+json"),
        (header::CACHE_CONTROL, "no-store"),
        (header::RETRY_AFTER, "1"),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
    ];
    (StatusCode::SERVICE_UNAVAILABLE, headers, problem).into_response()
}

fn log_end<E: std::fmt::Display>(peer: SocketAddr, ended: Result<(), E>) {
    if let Err(error) = ended {
        tracing::debug!(%peer, %error, "connection ended");
    }
}

#[cfg(test)]
mod tests;
