//! `PublishStream`: requests one behind another without waiting, and an answer to each in the same order.
//!
//! A request that is refused is answered by results that say so, and the stream goes on. It ends early only where no answer
//! can be given: a message that cannot be read, a drain, or a publisher that has lost its access. What was not answered by
//! then was appended or not; published again with the same ids, it is appended once.
//!
//! A publisher that does not read its answers is not read from either: at most 64 requests, or 4 MiB and one more request,
//! are in flight on one stream. What the store has answered holds nothing of the hub's bound, read or not: HTTP/2 asks for no more
//! of a body whose peer has no room, so a request that waits goes on in a task of its own.
//!
//! ```text
//! requests   1 2 3      each is polled once when it comes, so they are appended as 1 2 3
//! store      acknowledges 2, then 1, then 3
//! answers    1 2 3      in the order of the requests
//! ```

use std::panic::resume_unwind;
use std::pin::Pin;
use std::sync::Arc;

use futures_util::stream::{self, FuturesOrdered};
use futures_util::{FutureExt as _, Stream, StreamExt as _, future, poll};
use galaxy_push_proto::v1::{PublishRequest, PublishResponse, PublishResult};
use galaxy_push_proto::validate::REQUEST_BYTES_MAX;
use galaxy_push_proto::{Failure, Reason};
use prost::Message as _;
use tokio::sync::watch;
use tokio_util::task::AbortOnDropHandle;
use tokio_util::task::task_tracker::TaskTrackerToken;
use tonic::{Code, Status};

use crate::app::drain;
use crate::app::publish::{self, Published, check_namespace};
use crate::app::shared::Shared;
use crate::state::access::{Caller, Grant};
use crate::state::in_flight::{Permit, PermitSlot};
use crate::state::ownership;
use crate::surface::revocation;

/// The requests of one stream that may be in flight: enough to keep a store busy that takes a moment for each.
const REQUESTS_MAX: usize = 64;

/// With so many bytes in flight, no other request of the stream is read. So one stream makes the hub hold less than this
/// and the largest request together, 8 MiB.
const BYTES_MAX: usize = 4 << 20;

/// How many bytes the request had, and what it is answered.
type Answer = (usize, PublishResponse);

/// One stream of requests.
struct Pipeline<R> {
    shared: Arc<Shared>,
    caller: Caller,
    /// Whether its publisher may still be here.
    grant: Grant,
    /// What was read of the request that came last.
    received: PermitSlot,
    requests: R,
    in_flight: FuturesOrdered<Pin<Box<dyn Future<Output = Answer> + Send>>>,
    bytes: usize,
    draining: watch::Receiver<bool>,
    /// How the stream ends once everything in flight is answered.
    end: Option<Result<(), Status>>,
    /// A drain waits for the last answer.
    _open: TaskTrackerToken,
}

/// The answers to these requests, in their order.
pub(crate) fn answers<R>(
    shared: Arc<Shared>,
    caller: Caller,
    grant: Grant,
    open: TaskTrackerToken,
    received: PermitSlot,
    requests: R,
) -> impl Stream<Item = Result<PublishResponse, Status>> + Send
where
    R: Stream<Item = Result<PublishRequest, Status>> + Send + Unpin,
{
    let pipeline = Pipeline {
        caller,
        grant,
        received,
        requests,
        in_flight: FuturesOrdered::new(),
        bytes: 0,
        draining: shared.draining.subscribe(),
        end: None,
        _open: open,
        shared,
    };
    stream::unfold(pipeline, async |mut pipeline| pipeline.next().await.map(|answer| (answer, pipeline)))
}

impl<R> Pipeline<R>
where
    R: Stream<Item = Result<PublishRequest, Status>> + Send + Unpin,
{
    /// The next answer, or how the stream ends. Answers come first, so that a full pipeline empties before more is read.
    ///
    /// Cancel safe: a dropped call loses neither a request nor an answer.
    async fn next(&mut self) -> Option<Result<PublishResponse, Status>> {
        loop {
            let open = self.end.is_none();
            let room = open && self.in_flight.len() < REQUESTS_MAX && self.bytes < BYTES_MAX;
            tokio::select! {
                biased;
                Some((bytes, response)) = self.in_flight.next() => {
                    self.bytes -= bytes;
                    return Some(Ok(response));
                }
                () = drain::begins(&mut self.draining), if open => {
                    self.end = Some(Err(ownership::draining().status()));
                }
                () = self.grant.revoked(), if open => {
                    self.end = Some(Err(revocation::access_changed().status()));
                }
                request = self.requests.next(), if room => match request {
                    Some(Ok(request)) => self.begin(request).await,
                    Some(Err(status)) => {
                        let (bytes, now) = (self.received.bytes(), self.shared.clock.now().mono);
                        self.caller.count_refused_with(status.code(), bytes, now);
                        self.end = Some(Err(explain(status)));
                    }
                    None => self.end = Some(Ok(())),
                },
                else => return self.end.replace(Ok(()))?.err().map(Err),
            }
        }
    }

    /// Begins to publish a request. Its future is polled once right away, so that requests are appended in the order in which
    /// they came: later polls may come in any order, and come whether or not anybody asks for answers.
    async fn begin(&mut self, request: PublishRequest) {
        let bytes = request.encoded_len();
        let (shared, caller) = (self.shared.clone(), self.caller.clone());
        let permit = self.received.take().unwrap_or_else(|| shared.publishes_in_flight.permit(None));
        let mut answer = async move { (bytes, answer(&shared, &caller, permit, request).await) }.boxed();
        self.bytes += bytes;
        self.in_flight.push_back(match poll!(&mut answer) {
            std::task::Poll::Ready(answered) => future::ready(answered).boxed(),
            std::task::Poll::Pending => go_on(AbortOnDropHandle::new(tokio::spawn(answer))).boxed(),
        });
    }
}

/// What a request is answered that goes on by itself, and ends with the stream.
async fn go_on(task: AbortOnDropHandle<Answer>) -> Answer {
    match task.await {
        Ok(answered) => answered,
        Err(error) if error.is_panic() => resume_unwind(error.into_panic()),
        Err(_) => future::pending().await, // the runtime ends, and this with it
    }
}

/// Publishes one request. A refusal is an answer, too.
async fn answer(
    shared: &Shared,
    caller: &Caller,
    permit: Permit,
    request: PublishRequest,
) -> PublishResponse {
    let PublishRequest { mut events, request_id, namespace } = request;
    let bytes = permit.bytes();
    let published = match check_namespace(&namespace) {
        Ok(()) => publish::publish(shared, caller, permit, &mut events).await,
        Err(failure) => {
            shared.metrics.refused(&failure);
            Err(failure)
        }
    };
    let results = match published {
        Ok(published) => published.into_iter().map(Published::result).collect(),
        Err(failure) => {
            caller.count_refused(&failure, bytes, shared.clock.now().mono);
            refused(&failure, events.into_iter().map(|event| event.id))
        }
    };
    PublishResponse { results, request_id }
}

/// What a refused request is answered: nothing of it was appended. Where one event is at fault, it alone has the reason,
/// and the others are ABORTED: they may be sent again without it. A request without events is told by one result
/// without an id.
fn refused(failure: &Failure, ids: impl Iterator<Item = String>) -> Vec<PublishResult> {
    let at_fault = failure.field.as_deref().and_then(index_of_event);
    let refused = |(index, id): (usize, String)| {
        let blameless = at_fault.is_some_and(|at_fault| at_fault != index);
        let (code, reason) = match failure.reason {
            _ if blameless => (Code::Aborted, ""),
            reason => (failure.code, reason.map_or("", Reason::as_str)),
        };
        PublishResult { id, code: code.into(), reason: reason.to_owned(), ..PublishResult::default() }
    };
    let results: Vec<_> = ids.enumerate().map(refused).collect();
    if results.is_empty() { vec![refused((0, String::new()))] } else { results }
}

/// The index in a field such as `events[3].to[0]`.
fn index_of_event(field: &str) -> Option<usize> {
    field.strip_prefix("events[")?.split_once(']')?.0.parse().ok()
}

/// The library refuses a message above the limit as OUT_OF_RANGE and does not say what to do.
fn explain(status: Status) -> Status {
    if status.code() == Code::OutOfRange { too_large().status() } else { status }
}

/// What a request above the limit is answered.
pub(crate) fn too_large() -> Failure {
    let message = format!("the request is larger than {REQUEST_BYTES_MAX} bytes: split the batch");
    Failure::new(Reason::RequestInvalid, message)
}

impl Published {
    /// The result as both ways to publish over gRPC show it.
    pub(crate) fn result(self) -> PublishResult {
        let cursor = self.cursor_text();
        PublishResult { id: self.id, cursor, duplicate: self.duplicate, ..PublishResult::default() }
    }
}
