//! The accept loop and the life of one connection.
//!
//! [`serve`] owns the socket and a tracker of connection tasks; each task owns its connection. Neither queues anything:
//! what is not accepted waits in the kernel.

use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use galaxy_push_core::FOR_EVER;
use http::{Request, Response, Version};
use hyper::body::{Body as _, Incoming};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto::Builder;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tower::ServiceExt as _;

use crate::accept::Accept;
use crate::browser_guard::with_nosniff;
use crate::limits::Limits;
use crate::log_limiter::LogLimiter;
use crate::peer::Peer;
use crate::response_body::{ResponseBody, track};
use crate::slot_io::SlotIo;
use crate::slots::{ConnectionHandle, ConnectionSlots, SlotGuard, SlotPolicy};
use crate::stall_guard::{Outflow, SocketHooks, StallGuard, StallTimeouts};
use crate::tls::{self, PeerNames, Tls};

/// After a failed accept (no file descriptor left, most likely) the loop waits this long: short enough to be back at
/// once, long enough not to spin.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// A TLS handshake takes this long at most.
const HANDSHAKE: Duration = Duration::from_secs(5);

/// Whoever is refused has this long to hear why, and may send so much meanwhile.
const DRAIN_WITHIN: Duration = Duration::from_secs(1);
const DRAIN_BYTES: u64 = 64 << 10;

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

/// Serves `app` over TLS as [`serve`] does without. Peers that present a certificate are named by [`PeerNames`].
pub async fn serve_tls(accept: impl Accept, tls: Arc<Tls>, app: Router, limits: Limits, drain: Drain) {
    let slots = ConnectionSlots::new("tls", &limits, SlotPolicy::default());
    serve_at(accept, Some(tls), app, limits, slots, drain).await;
}

/// Serves `app` until the drain is over. Returns once every connection has ended.
///
/// Cancel safe in the plain sense: dropping it closes the socket and, with it, every connection.
pub async fn serve(accept: impl Accept, app: Router, limits: Limits, drain: Drain) {
    let slots = ConnectionSlots::new("plain", &limits, SlotPolicy::default());
    serve_at(accept, None, app, limits, slots, drain).await;
}

/// Serves as [`serve`] or, with TLS, [`serve_tls`], to whoever gets one of these places.
pub async fn serve_at<A: Accept>(
    mut accept: A,
    tls: Option<Arc<Tls>>,
    app: Router,
    limits: Limits,
    slots: ConnectionSlots,
    drain: Drain,
) {
    let limits = limits.clamped();
    let (http, app) = (Arc::new(protocol(&limits)), with_nosniff(app));
    let refusals = Arc::new(LogLimiter::default());
    let patience = StallTimeouts {
        write_stall: limits.write_stall,
        silence: limits.keepalive + limits.keepalive_timeout,
    };
    let tasks = TaskTracker::new();
    let mut failing = AcceptFailures::default();
    loop {
        let accepted = tokio::select! {
            biased;
            () = drain.draining.cancelled() => break,
            accepted = next(&mut accept, &slots, &mut failing) => accepted,
        };
        let Some((io, peer, slot)) = accepted else { continue };
        let outflow = Outflow::default();
        let io = StallGuard::new(
            io,
            patience,
            outflow.clone(),
            SocketHooks { on_blocked: A::fell_behind, kernel_queue: A::kernel_queue },
        );
        let (http, app, drain, tls) = (http.clone(), app.clone(), drain.clone(), tls.clone());
        let refusals = refusals.clone();
        tasks.spawn(async move {
            let caller = PeerContext { peer, names: None, outflow, slot };
            match tls {
                None => serve_connection(&http, io, caller, app, drain).await,
                Some(tls) => serve_tls_connection(&http, (&tls, &refusals), io, caller, app, drain).await,
            }
        });
    }
    drop(accept);
    tasks.close();
    tasks.wait().await;
}

/// Whether accepting fails. At a limit of descriptors that may begin and end many times a second.
#[derive(Default)]
struct AcceptFailures {
    is_failing: bool,
    /// That it fails was said, so it is also said when it works again.
    was_said: bool,
    lines: LogLimiter,
}

impl AcceptFailures {
    fn fails(&mut self, error: &io::Error) {
        if std::mem::replace(&mut self.is_failing, true) {
            return;
        }
        let left_out = self.lines.count("");
        self.was_said = left_out.is_some();
        if let Some(left_out) = left_out {
            tracing::warn!(%error, pause = ?ACCEPT_PAUSE, left_out, "cannot accept connections; trying on");
        }
    }

    fn works(&mut self) {
        self.is_failing = false;
        if std::mem::take(&mut self.was_said) {
            tracing::info!("connections are accepted again");
        }
    }
}

/// The next connection. Says when it begins to fail and when it works again, and not each time between.
async fn next<A: Accept>(
    accept: &mut A,
    slots: &ConnectionSlots,
    failing: &mut AcceptFailures,
) -> Option<(A::Io, SocketAddr, SlotGuard)> {
    match accept.accept().await {
        Ok((io, peer)) => {
            failing.works();
            // Nobody has to give way before somebody comes. Those behind wait in the kernel.
            slots.wait().await;
            let slot = slots.enter(peer.ip());
            if slot.is_none() {
                tracing::debug!(%peer, "closed: its address has as many places as strangers of one may have");
            }
            Some((io, peer, slot?))
        }
        Err(error) => {
            failing.fails(&error);
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
        // An answer may wait behind much else, which hyper does not see: `StallGuard` judges by bytes.
        .keep_alive_timeout(FOR_EVER);
    http
}

/// Who is at the other end.
struct PeerContext {
    peer: SocketAddr,
    names: Option<PeerNames>,
    outflow: Outflow,
    slot: SlotGuard,
}

async fn serve_tls_connection<I>(
    http: &Builder<TokioExecutor>,
    (tls, refusals): (&Arc<Tls>, &LogLimiter),
    io: I,
    mut caller: PeerContext,
    app: Router,
    drain: Drain,
) where
    I: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let peer = caller.peer;
    let handshake = tokio::select! {
        biased;
        () = drain.draining.cancelled() => return, // nobody has asked anything yet
        () = caller.slot.connection().evicted() => return,
        handshake = timeout(HANDSHAKE, tls.acceptor().await.accept(io).into_fallible()) => handshake,
    };
    let io = match handshake {
        Ok(Ok(io)) => io,
        Ok(Err((error, io))) => {
            if let Some(left_out) = refusals.count_address(Some(peer.ip())) {
                tracing::info!(%peer, %error, left_out, "refused: the TLS handshake failed");
            }
            return drain_refused(io, &drain).await;
        }
        Err(_) => {
            if let Some(left_out) = refusals.count_address(Some(peer.ip())) {
                tracing::info!(%peer, left_out, "refused: no TLS handshake in time");
            }
            return;
        }
    };
    caller.names = io.get_ref().1.peer_certificates().and_then(<[_]>::first).map(tls::names);
    serve_connection(http, io, caller, app, drain).await;
}

/// Reads on for a moment, so that the peer reads why it was refused: to close with its bytes unread would reset the
/// connection, and what was said last with it.
async fn drain_refused(mut io: impl AsyncRead + AsyncWrite + Unpin, drain: &Drain) {
    let reading = async {
        let _ = io.shutdown().await; // it may be gone, which is as well
        let mut rest = (&mut io).take(DRAIN_BYTES);
        let _ = tokio::io::copy(&mut rest, &mut tokio::io::sink()).await;
    };
    tokio::select! {
        biased;
        () = drain.draining.cancelled() => {}
        _ = timeout(DRAIN_WITHIN, reading) => {}
    }
}

async fn serve_connection<I>(
    http: &Builder<TokioExecutor>,
    io: I,
    from: PeerContext,
    app: Router,
    drain: Drain,
) where
    I: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let PeerContext { peer, names, outflow, slot } = from;
    let handle = slot.connection().clone();
    let io = TokioIo::new(SlotIo::new(io, slot));
    let asker = handle.clone();
    let service = hyper::service::service_fn(move |mut request: Request<Incoming>| {
        request.extensions_mut().insert(Peer(peer));
        request.extensions_mut().insert(outflow.clone());
        if request.version() == Version::HTTP_2 {
            outflow.answers_pings();
        }
        if let Some(names) = &names {
            request.extensions_mut().insert(names.clone());
        }
        answer(&asker, app.clone(), request)
    });
    let mut connection = pin!(http.serve_connection_with_upgrades(io, service));

    let (mut leaving, mut closing) = (false, false);
    loop {
        tokio::select! {
            biased;
            () = drain.deadline.cancelled() => return,
            () = handle.evicted() => return tracing::debug!(%peer, "closed: it has to leave, or gave way to others"),
            // What it asked at the last moment is answered all the same.
            () = sleep(CLOSING), if closing => match handle.is_idle_expired() {
                true => return,
                false => continue,
            },
            () = drain.draining.cancelled(), if !leaving => leaving = true,
            () = sleep(GIVEN_UP), if leaving && !closing => match handle.is_abandoned() {
                true => return tracing::debug!(%peer, "closed: it does not take what it asked for"),
                false => continue,
            },
            ended = connection.as_mut() => return log_end(peer, ended),
            () = handle.idle_expired(), if !leaving => {
                tracing::debug!(%peer, "closed: it asks nothing");
                (leaving, closing) = (true, true);
            }
        }
        connection.as_mut().graceful_shutdown();
    }
}

/// Has the app answer, unless the place that the peer has is not for that.
fn answer(
    connection: &ConnectionHandle,
    app: Router,
    request: Request<Incoming>,
) -> impl Future<Output = Result<Response<ResponseBody>, Infallible>> + use<> {
    let is_http1 = request.version() < Version::HTTP_2;
    let mut active = connection.begin_request(is_http1, is_http1 && request.body().is_end_stream());
    let (mut head, body) = request.into_parts();
    let asking = connection.for_request(&head);
    let body = active.body(&asking, body);
    let refusal = connection.refusal(&head);
    head.extensions.insert(asking);
    async move {
        if let Some(refusal) = refusal {
            return Ok(track(refusal, active));
        }
        let request = Request::from_parts(head, Body::new(body));
        Ok(track(app.oneshot(request).await.unwrap_or_else(|never| match never {}), active))
    }
}

fn log_end<E: std::fmt::Display>(peer: SocketAddr, ended: Result<(), E>) {
    if let Err(error) = ended {
        tracing::debug!(%peer, %error, "connection ended");
    }
}

#[cfg(test)]
mod tests;
