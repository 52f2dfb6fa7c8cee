//! A gRPC request body that hands on whole messages only.
//!
//! Without it, a library would buffer unfinished messages where nothing counts them. Here they are held and counted by a
//! permit, and inflated if they come compressed. At most one message is handed on before the next is asked for.
//!
//! ```text
//! arrives    [prefix, half of A]            nothing is handed on; the permit holds half of A
//! arrives    [rest of A, prefix of B]       A is handed on, its permit goes to the handler; B has begun
//! nothing    30 s after the first byte of B the body ends with DEADLINE_EXCEEDED, and what was held is free
//! ```

use std::collections::VecDeque;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::{Buf as _, Bytes};
use galaxy_push_core::frame::PREFIX_BYTES;
use galaxy_push_proto::{Failure, Reason};
use http_body::{Body, Frame, SizeHint};
use tokio::time::{Sleep, sleep};
use tonic::Status;

use super::gzip::{self, COMPRESSED, Encoding};
use super::pieces::Pieces;
use super::{ByteBody, WITHIN, late};
use crate::state::in_flight::{InFlight, Permit, PermitSlot};

/// From when on a message is awaited.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Deadline {
    /// The only one, and the end of the request behind it, from its beginning: it is answered after that.
    FromTheStart,
    /// Each from its first byte: a stream may rest between them.
    FromTheFirstByte,
}

/// A body of messages. At most one is handed on before the next is asked for; its share is then in [`PermitSlot`].
pub(crate) struct Messages<B> {
    /// The body as it arrives.
    body: Pin<Box<B>>,
    /// The largest message, in bytes, as it comes and inflated.
    limit: usize,
    /// From when on a message is late.
    from: Deadline,
    /// And after how long.
    within: Duration,
    /// The bound that its permits are of.
    in_flight: InFlight,
    /// Who must leave some of that room to others.
    whose: Option<Arc<str>>,
    /// Where the permit of a whole message is left.
    received: PermitSlot,
    /// How messages are compressed that say they are.
    encoding: Encoding,
    /// Nobody takes the share of a whole message.
    releases_whole: bool,
    /// The message that has begun: its prefix, then all of it.
    begun: Option<PartialMessage>,
    /// What arrived behind it.
    rest: Bytes,
    /// What is handed on next.
    ready: VecDeque<Bytes>,
    /// Runs while a message, or the end of the request, is awaited.
    deadline: Option<Pin<Box<Sleep>>>,
    /// A message is larger than the limit, which the reader refuses when it sees the prefix.
    passes: bool,
}

/// A message that has begun, and what is held for it.
struct PartialMessage {
    pieces: Pieces,
    permit: Permit,
}

impl<B> Messages<B> {
    /// A body whose messages have at most `limit` bytes each. `within`: for each message, or for the whole request.
    pub(crate) fn new(body: B, limit: usize, from: Deadline, within: Duration, in_flight: InFlight) -> Self {
        let deadline = (from == Deadline::FromTheStart).then(|| Box::pin(sleep(within)));
        Self {
            body: Box::pin(body),
            limit,
            from,
            within,
            in_flight,
            whose: None,
            received: PermitSlot::default(),
            encoding: Encoding::Identity,
            releases_whole: false,
            begun: None,
            rest: Bytes::new(),
            ready: VecDeque::new(),
            deadline,
            passes: false,
        }
    }

    /// They are this peer's, which must leave room for others; `None`: it need not.
    pub(crate) fn of(self, whose: Option<Arc<str>>) -> Self {
        Self { whose, ..self }
    }

    /// Hands on as they are, within the limit, what came compressed like this.
    pub(crate) fn encoded(self, encoding: Encoding) -> Self {
        Self { encoding, ..self }
    }

    /// For readers that answer at once and take no share: only what is unfinished counts.
    pub(crate) fn counting_unfinished_only(self) -> Self {
        Self { releases_whole: true, ..self }
    }

    /// Where the share of the message that was handed on last is.
    pub(crate) fn received(&self) -> PermitSlot {
        self.received.clone()
    }

    /// Frees everything: what has arrived will not be read, and the request is refused.
    fn give_up(&mut self) {
        self.begun = None;
        self.rest.clear();
        self.ready.clear();
        drop(self.received.take());
    }

    /// Moves what has arrived into the message that it belongs to.
    fn assemble(&mut self) -> Result<(), Failure> {
        while !self.rest.is_empty() && self.ready.is_empty() {
            if self.passes {
                self.ready.push_back(std::mem::take(&mut self.rest));
                return Ok(());
            }
            let begun = match &mut self.begun {
                Some(begun) => begun,
                None => {
                    if self.deadline.is_none() {
                        self.deadline = Some(Box::pin(sleep(self.within)));
                    }
                    let pieces = Pieces::new(PREFIX_BYTES + self.limit);
                    self.begun
                        .insert(PartialMessage { pieces, permit: self.in_flight.permit(self.whose.clone()) })
                }
            };
            let Some(length) = begun.length(&self.rest) else {
                let part = std::mem::take(&mut self.rest);
                begun.add(part, false)?;
                return Ok(());
            };
            if length > self.limit {
                let is_compressed = begun.pieces.start().chain(&self.rest[..]).get_u8() == COMPRESSED;
                self.ready = begun.pieces.take();
                if is_compressed {
                    if self.encoding == Encoding::Identity {
                        return Err(gzip::compressed_without_encoding());
                    }
                    // The reader looks at the flag first, of which it knows nothing, and is to refuse the size.
                    self.ready.front_mut().unwrap_or(&mut self.rest).advance(1);
                    self.ready.push_front(Bytes::from_static(&[0]));
                }
                self.passes = true;
                continue;
            }
            let missing = PREFIX_BYTES + length - begun.pieces.len();
            let is_complete = self.rest.len() >= missing;
            let part = self.rest.split_to(missing.min(self.rest.len()));
            if !is_complete {
                begun.add(part, false)?;
                continue;
            }
            if self.releases_whole {
                begun.pieces.push(part, true);
            } else {
                begun.add(part, true)?;
            }
            if let Some(mut begun) = self.begun.take() {
                let message = begun.message(self.encoding, self.limit, self.releases_whole);
                self.received.note(begun.permit.bytes());
                self.ready = message?;
                if !self.releases_whole {
                    self.received.put(begun.permit);
                }
                if self.from == Deadline::FromTheFirstByte {
                    self.deadline = None;
                }
            }
        }
        Ok(())
    }
}

impl PartialMessage {
    /// The length that the prefix tells, once it is there with what comes next.
    fn length(&self, next: &Bytes) -> Option<usize> {
        let prefix = self.pieces.start().chain(&next[..]);
        let mut prefix = prefix.take(PREFIX_BYTES);
        if prefix.remaining() < PREFIX_BYTES {
            return None;
        }
        prefix.advance(1); // whether it is compressed
        Some(prefix.get_u32() as usize)
    }

    /// The whole message, as it is.
    fn message(
        &mut self,
        encoding: Encoding,
        limit: usize,
        releases_whole: bool,
    ) -> Result<VecDeque<Bytes>, Failure> {
        let is_compressed = self.pieces.start().first() == Some(&COMPRESSED);
        let mut pieces = self.pieces.take();
        if !is_compressed {
            return Ok(pieces);
        }
        if encoding == Encoding::Identity {
            return Err(gzip::compressed_without_encoding());
        }
        let mut prefix = PREFIX_BYTES;
        while let Some(piece) = pieces.front_mut().filter(|_| prefix > 0) {
            let part = prefix.min(piece.len());
            piece.advance(part);
            prefix -= part;
            if piece.is_empty() {
                pieces.pop_front();
            }
        }
        let permit = &mut self.permit;
        let hold = |held| if releases_whole { Ok(()) } else { permit.reserve(held) };
        gzip::message(pieces, limit, hold).map_err(|error| error.failure(limit, WITHIN))
    }

    /// Adds a part, and has the permit hold it.
    fn add(&mut self, data: Bytes, is_complete: bool) -> Result<(), Failure> {
        self.pieces.push(data, is_complete);
        // The prefix does not count: a message of the largest size fits into the smallest budget.
        self.permit.reserve(self.pieces.held().saturating_sub(PREFIX_BYTES))
    }
}

impl<B: ByteBody> Body for Messages<B> {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        let this = self.get_mut();
        loop {
            if let Some(piece) = this.ready.pop_front() {
                return Poll::Ready(Some(Ok(Frame::data(piece))));
            }
            if !this.rest.is_empty() {
                if let Err(refused) = this.assemble() {
                    this.give_up();
                    return Poll::Ready(Some(Err(refused.status())));
                }
                continue;
            }
            if let Some(deadline) = &mut this.deadline
                && deadline.as_mut().poll(cx).is_ready()
            {
                this.give_up();
                return Poll::Ready(Some(Err(late(this.within).status())));
            }
            match ready!(this.body.as_mut().poll_frame(cx)) {
                Some(Ok(frame)) => match frame.into_data() {
                    Ok(data) => this.rest = data,
                    Err(trailers) => return Poll::Ready(Some(Ok(trailers))),
                },
                Some(Err(error)) => return Poll::Ready(Some(Err(Status::from_error(error.into())))),
                None if this.begun.take().is_some() && !this.passes => {
                    let cut = Failure::new(Reason::RequestInvalid, "the request ends inside a message");
                    return Poll::Ready(Some(Err(cut.status())));
                }
                None => {
                    this.deadline = None;
                    return Poll::Ready(None);
                }
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        self.ready.is_empty() && self.rest.is_empty() && self.begun.is_none() && self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::default()
    }
}
