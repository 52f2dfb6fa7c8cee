//! One stream of server-sent events, without its HTTP: the connection it reads, and what of it was handed to HTTP.
//!
//! Made by `sse`, which asks it for one piece after the other; kept by `stalled` between two pieces. It starts no task and
//! writes to no socket.

use std::time::Duration;

use bytes::{Bytes, BytesMut};
use galaxy_push_listener::{AbandonedResponse, ConnectionHandle, Outflow, WriteTracker};
use tokio_util::task::task_tracker::TaskTrackerToken;

use crate::app::metrics::Connected;
use crate::state::close::CloseReason;
use crate::state::connection::{Connection, Mark};
use crate::surface::encode::Encoder;

/// How many bytes are handed to HTTP at a time.
///
/// HTTP asks for more as soon as the peer has taken about as much. That shows that the peer takes something, and what HTTP
/// has not asked for can still be kept back when the connection has to close. HTTP/2 asks when all of it is sent, so whoever
/// takes little is given little at a time; HTTP/1 when most of its buffer is written, and there the listener sees what is
/// taken.
pub(super) struct PieceSizes {
    now: usize,
    least: usize,
    most: usize,
}

impl PieceSizes {
    pub(super) const HTTP1: Self = Self { now: 16 << 10, least: 16 << 10, most: 16 << 10 };
    /// So a peer that takes 60 bytes a second asks again within 5 s.
    pub(super) const HTTP2: Self = Self { now: 256, least: 256, most: 4 << 10 };
    /// A piece that is asked for later than this after the one before it was not taken fast.
    const FAST: Duration = Duration::from_millis(500);

    /// HTTP asked for the next piece this long after it was handed the last one.
    fn adapt(&mut self, waited: Duration) {
        self.now = if waited > Self::FAST { self.least } else { (self.now * 2).min(self.most) };
    }
}

/// The HTTP connection that carries a stream.
pub(super) struct Carrier {
    outflow: Outflow,
    handle: Option<ConnectionHandle>,
    sizes: PieceSizes,
    /// The pieces of this stream that HTTP was handed, by their numbers: which of them the peer has taken.
    pieces: WriteTracker,
}

/// An open stream: all that it holds of the gateway. Dropping it frees that.
pub(super) struct OpenStream {
    connection: Connection,
    encoder: Encoder,
    /// The `retry:` line that begins the first block, until that was sent.
    retry: Bytes,
    /// The last piece was handed to HTTP, and may still be on its way.
    over: bool,
    /// What was encoded and not handed to HTTP yet: the end of a block, or the ends of several.
    rest: Bytes,
    /// How many pieces were handed to HTTP.
    pieces_sent: u64,
    /// Once so many pieces are taken, so is everything up to there. There is one such mark at a time.
    mark: Option<(u64, Mark)>,
    carrier: Carrier,
    _connected: Connected,
    _tracked: TaskTrackerToken,
}

/// What is kept of a stream between two pieces.
pub(super) enum Kept {
    /// All of it.
    Open(Box<OpenStream>),
    /// Its last piece. The stream was given up, which its connection is told.
    Goodbye { goodbye: Bytes, _told: Option<AbandonedResponse> },
}

impl Carrier {
    pub(super) fn new(outflow: Outflow, handle: Option<ConnectionHandle>, sizes: PieceSizes) -> Self {
        Self { pieces: WriteTracker::new(outflow.clone(), 0), outflow, handle, sizes }
    }
}

impl OpenStream {
    pub(super) fn new(
        connection: Connection,
        encoder: Encoder,
        retry: Bytes,
        carrier: Carrier,
        connected: Connected,
        tracked: TaskTrackerToken,
    ) -> Self {
        Self {
            connection,
            encoder,
            retry,
            over: false,
            rest: Bytes::new(),
            pieces_sent: 0,
            mark: None,
            carrier,
            _connected: connected,
            _tracked: tracked,
        }
    }

    /// Names the stream: its connection's number.
    pub(super) fn id(&self) -> u64 {
        self.connection.id()
    }

    /// Waits for the next piece. `None`: the last one was handed to HTTP.
    pub(super) async fn next_piece(&mut self) -> Option<Bytes> {
        self.settle();
        if self.rest.is_empty() {
            if self.over {
                return None;
            }
            self.rest = self.encoded().await;
        }
        Some(self.piece())
    }

    /// Waits for what is to be sent next, or says goodbye.
    async fn encoded(&mut self) -> Bytes {
        let mut outgoing = Vec::new();
        match self.connection.next(&mut outgoing).await {
            Ok(()) => {
                let mut pieces = self.first_line();
                // An event stream has no limit to a frame, and nothing is answered in it.
                let _ = self.encoder.encode(outgoing, &mut pieces);
                joined(pieces)
            }
            Err(reason) => self.goodbye(&reason),
        }
    }

    /// What goes before the first block, once.
    fn first_line(&mut self) -> Vec<Bytes> {
        let retry = std::mem::take(&mut self.retry);
        if retry.is_empty() { Vec::new() } else { vec![retry] }
    }

    /// The next piece of what is encoded.
    fn piece(&mut self) -> Bytes {
        let piece = self.rest.split_to(self.rest.len().min(self.carrier.sizes.now));
        self.pieces_sent += 1;
        self.carrier.pieces.track(piece, self.pieces_sent)
    }

    /// HTTP asks for the next piece, this long after it was handed the last one.
    pub(super) fn asked_after(&mut self, waited: Duration) {
        self.carrier.sizes.adapt(waited);
    }

    /// Whether what was handed to HTTP waits for the socket that the stream shares with others.
    pub(super) fn is_blocked(&self) -> bool {
        self.carrier.outflow.is_blocked()
    }

    /// Notes what the peer has taken: HTTP asks for more while it still holds some.
    fn settle(&mut self) {
        let taken = self.carrier.pieces.written();
        for _ in 0..2 {
            if self.rest.is_empty() {
                self.mark.get_or_insert((self.pieces_sent, self.connection.mark()));
            }
            if let Some((_, mark)) = self.mark.take_if(|(pieces, _)| *pieces <= taken) {
                self.connection.confirm(mark);
            }
        }
    }

    /// Why it has to close although its peer has not taken all of what HTTP was handed.
    pub(super) fn must_close(&mut self) -> Option<CloseReason> {
        self.settle();
        let reason = self.connection.must_close();
        reason.filter(|_| !self.over)
    }

    #[cfg(all(test, shuttle))]
    pub(super) fn close_reason(&self) -> Option<CloseReason> {
        self.connection.must_close()
    }

    /// Nobody waits any longer for its peer to take what HTTP was handed. Drop the stream afterwards.
    pub(super) fn give_up(&mut self, reason: &CloseReason) -> Kept {
        if *reason == CloseReason::TooSlow {
            self.settle();
            self.connection.give_up();
        }
        // One that had said goodbye already says nothing more, and nothing is said in the middle of a block.
        let mut goodbye = if self.over { Bytes::new() } else { self.goodbye(reason) };
        if !self.rest.is_empty() {
            goodbye.clear();
        }
        Kept::Goodbye { goodbye, _told: self.carrier.handle.as_ref().map(ConnectionHandle::abandon_response) }
    }

    /// The last piece.
    fn goodbye(&mut self, reason: &CloseReason) -> Bytes {
        self.over = true;
        let mut pieces = self.first_line();
        self.encoder.goodbye(self.connection.goodbye_cursor(), reason, &mut pieces);
        joined(pieces)
    }
}

impl Drop for OpenStream {
    fn drop(&mut self) {
        if !self.over && self.carrier.outflow.is_stalled() {
            self.encoder.dropped(&CloseReason::TooSlow);
            self.settle();
            self.connection.give_up();
        }
    }
}

/// One piece of everything, so that the HTTP connection frames it once. A single one is shared, not copied.
fn joined(mut pieces: Vec<Bytes>) -> Bytes {
    if pieces.len() == 1 {
        return pieces.remove(0);
    }
    let mut joined = BytesMut::with_capacity(pieces.iter().map(Bytes::len).sum());
    pieces.iter().for_each(|piece| joined.extend_from_slice(piece));
    joined.freeze()
}
