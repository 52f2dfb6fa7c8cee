//! What becomes of open streams whose peer has lost its access: it is told so, and its connection is closed if it does not
//! take that.
//!
//! ```text
//!  0 s   set_access without "gw"       the stream of "gw" ends, with UNAVAILABLE: come back, as whom you are now
//! 10 s   the stream is still there     its peer takes nothing, so the end cannot be sent: the connection is closed
//! ```
//!
//! Streams of gateways and publishers start the watch when they open. Whether a peer may stay is decided by its [`Grant`].

use std::time::Duration;

use galaxy_push_listener::ConnectionHandle;
use galaxy_push_proto::{Failure, Reason};
use tokio::time::sleep;
use tokio_util::task::AbortOnDropHandle;
use tonic::Code;

use crate::state::access::Grant;

/// So long a peer without access has to take the end of its stream. One that takes nothing cannot be told, because HTTP/2
/// sends nothing behind a closed window.
const CLOSE_AFTER: Duration = Duration::from_secs(10);

/// Watches the grant of a stream: once it is revoked, the peer has 10 s to take the end of the stream, then its connection
/// is closed, with everything else on it. The watch ends when what is returned is dropped, which is with the stream.
/// `None`: there is no connection, or nobody could revoke the grant.
pub(crate) fn close_when_revoked(
    grant: &Grant,
    handle: Option<&ConnectionHandle>,
) -> Option<AbortOnDropHandle<()>> {
    let handle = handle.filter(|_| grant.caller().is_revocable())?.clone();
    let mut grant = grant.clone();
    Some(AbortOnDropHandle::new(tokio::spawn(async move {
        grant.revoked().await;
        sleep(CLOSE_AFTER).await;
        let caller = grant.caller().name();
        tracing::info!(caller, "closed: it does not take the end of a stream that it may have no longer");
        handle.close();
    })))
}

/// The end of a stream whose grant was revoked. It says to come back: who the peer is by then is decided anew. Of a request
/// that is refused with it nothing was appended.
pub(crate) fn access_changed() -> Failure {
    let message =
        "what this hub's credentials say of you has changed: come back, with the last cursor of a stream";
    Failure::new(Reason::NotGranted, message).code(Code::Unavailable)
}
