//! The accept loop and the life of one connection.
//!
//! [`serve`] owns the socket and a tracker of connection tasks; each task owns its connection. Neither queues anything:
//! what is not accepted waits in the kernel.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use http::{Request, Version};
use hyper::body::Incoming;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto::Builder;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::sync::Semaphore;
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tower::ServiceExt as _;

use crate::damped::Damped;
use crate::pages::unsniffed;
use crate::tls::{self, PeerNames, Tls};
use crate::watched::{FOR_EVER, Outflow, Patience, Watched};
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

/// Serves `app` over TLS as [`serve`] does without. Peers that present a certificate are named by [`PeerNames`].
pub async fn serve_tls(accept: impl Accept, tls: Arc<Tls>, app: Router, limits: Limits, drain: Drain) {
    run(accept, Some(tls), app, limits, drain).await;
}

/// Serves `app` until the drain is over. Returns once every connection has ended.
///
/// Cancel safe in the plain sense: dropping it closes the socket and, with it, every connection.
pub async fn serve(accept: impl Accept, app: Router, limits: Limits, drain: Drain) {
    run(accept, None, app, limits, drain).await;
}

async fn run<A: Accept>(
    mut accept: A,
    tls: Option<Arc<Tls>>,
    app: Router,
    limits: Limits,
    drain: Drain,
) {
    let (http, app) = (Arc::new(protocol(&limits)), unsniffed(app));
    let refusals = Arc::new(Damped::default());
    let patience =
        Patience { write_stall: limits.write_stall, silence: limits.keepalive + limits.keepalive_timeout };
    let places = Arc::new(Semaphore::new(limits.connections));
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
        let io = Watched::new(io, patience, outflow.clone(), A::fell_behind);
        let (http, app, drain, tls) = (http.clone(), app.clone(), drain.clone(), tls.clone());
        let refusals = refusals.clone();
        tasks.spawn(async move {
            let caller = Caller { peer, names: None, outflow };
            match tls {
                None => connection(&http, io, caller, app, limits, drain).await,
                Some(tls) => secured(&http, (&tls, &refusals), io, caller, app, limits, drain).await,
            }
            drop(place);
        });
    }
    drop(accept);
    tasks.close();
    tasks.wait().await;
}

/// The next connection. Says when it begins to fail and when it works again, and not each time between.
async fn next<A: Accept>(
    accept: &mut A,
    places: &Arc<Semaphore>,
    failing: &mut bool,
) -> Option<(A::Io, SocketAddr, tokio::sync::OwnedSemaphorePermit)> {
    let place = places.clone().acquire_owned().await.ok()?;
    match accept.accept().await {
        Ok((io, peer)) => {
            if std::mem::take(failing) {
                tracing::info!("connections are accepted again");
            }
            Some((io, peer, place))
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
    // Without a timer hyper's header timeout never fires.
    http.http1().timer(TokioTimer::new()).header_read_timeout(limits.header_read).max_buf_size(16 << 10);
    http.http2()
        .timer(TokioTimer::new())
        .max_concurrent_streams(limits.h2_streams)
        .initial_stream_window_size(limits.h2_stream_window)
        .initial_connection_window_size(limits.h2_connection_window)
        .max_frame_size(limits.h2_frame)
        .max_send_buf_size(limits.h2_send_buffer)
        .max_header_list_size(16 << 10)
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
}

async fn secured<I>(
    http: &Builder<TokioExecutor>,
    (tls, refusals): (&Arc<Tls>, &Damped),
    io: I,
    mut caller: Caller,
    app: Router,
    limits: Limits,
    drain: Drain,
) where
    I: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let peer = caller.peer;
    let handshake = tokio::select! {
        biased;
        () = drain.draining.cancelled() => return, // nobody has asked anything yet
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
    connection(http, io, caller, app, limits, drain).await;
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

async fn connection<I>(
    http: &Builder<TokioExecutor>,
    io: I,
    from: Caller,
    app: Router,
    limits: Limits,
    drain: Drain,
) where
    I: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let asked = Arc::new(AtomicBool::new(false));
    let io = TokioIo::new(io);
    let (peer, first) = (from.peer, asked.clone());
    let service = hyper::service::service_fn(move |mut request: Request<Incoming>| {
        first.store(true, Ordering::Relaxed);
        request.extensions_mut().insert(Peer(from.peer));
        request.extensions_mut().insert(from.outflow.clone());
        if request.version() == Version::HTTP_2 {
            from.outflow.answers_pings();
        }
        if let Some(names) = &from.names {
            request.extensions_mut().insert(names.clone());
        }
        let app = app.clone();
        async move {
            Ok::<_, Infallible>(
                app.oneshot(request.map(Body::new)).await.unwrap_or_else(|never| match never {}),
            )
        }
    });
    let mut connection = pin!(http.serve_connection_with_upgrades(io, service));

    // hyper waits for ever for the bytes that tell HTTP/1 from HTTP/2, and for the first HTTP/2 request.
    let asked = tokio::select! {
        biased;
        () = drain.deadline.cancelled() => return,
        ended = timeout(limits.header_read, connection.as_mut()) => match ended {
            Ok(ended) => return log_end(peer, ended),
            Err(_) => asked.load(Ordering::Relaxed),
        },
        () = drain.draining.cancelled() => true,
    };
    if !asked {
        return tracing::debug!(%peer, "closed: no request in time");
    }
    tokio::select! {
        biased;
        () = drain.deadline.cancelled() => return,
        () = drain.draining.cancelled() => connection.as_mut().graceful_shutdown(),
        ended = connection.as_mut() => return log_end(peer, ended),
    }
    tokio::select! {
        biased;
        () = drain.deadline.cancelled() => {}
        ended = connection.as_mut() => log_end(peer, ended),
    }
}

fn log_end<E: std::fmt::Display>(peer: SocketAddr, ended: Result<(), E>) {
    if let Err(error) = ended {
        tracing::debug!(%peer, %error, "connection ended");
    }
}

#[cfg(test)]
mod tests;
