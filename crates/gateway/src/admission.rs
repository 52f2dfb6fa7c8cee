//! From a user's request to a connection, or to a refusal: the same for every transport.
//!
//! The order is: is this gateway able to serve, who is it, what may they have, from where do they read.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use galaxy_push_core::cursor::StartFrom;
use galaxy_push_core::reader::{Reader, Settings};
use galaxy_push_core::window::Outcome;
use galaxy_push_proto::{Failure, Reason, v1};
use tokio::time::sleep_until;
use tonic::Code;

use crate::authority::{Authority, Verdict};
use crate::connection::{Connection, Limits};
use crate::edge::Edge;
use crate::grants::Identity;
use crate::quotas::{Quotas, Share};

/// How soon somebody who came too early may try again.
const NOT_READY_RETRY: Duration = Duration::from_secs(1);

/// A filtered reader is told where it stands at least this often per age of the window.
const TOLD_PER_AGE: u32 = 8;

/// What a user asks for.
#[derive(Clone, Debug, Default)]
pub(crate) struct Request {
    pub(crate) identity: Identity,
    pub(crate) topics: Vec<String>,
    pub(crate) cursor: String,
    /// The reader keeps the cursor without its script: it cannot drop it when it is refused.
    pub(crate) cannot_drop_it: bool,
    pub(crate) namespace: String,
    /// From where it comes, as far as that is known.
    pub(crate) address: Option<IpAddr>,
}

/// Admits users.
#[derive(Debug)]
pub(crate) struct Admission {
    pub(crate) edge: Arc<Edge>,
    pub(crate) authority: Authority,
    pub(crate) quotas: Arc<Quotas>,
    pub(crate) limits: Limits,
    pub(crate) heartbeat: Duration,
}

impl Admission {
    /// Opens a connection. Cancel safe.
    ///
    /// # Errors
    ///
    /// Why not, in the words for the user.
    pub(crate) async fn admit(&self, mut request: Request) -> Result<Connection, Failure> {
        self.ready()?;
        if !matches!(request.namespace.as_str(), "" | "default") {
            let message = "there is no such namespace: leave `namespace` out";
            return Err(Failure::without_reason(Code::NotFound, message).field("namespace"));
        }
        self.edge.routes.check(&request.identity, self.edge.clock.now().unix_ms)?;
        let topics: BTreeSet<String> = std::mem::take(&mut request.topics).into_iter().collect();
        request.identity.grants.check(&topics, self.limits.topics)?;
        let ask = match StartFrom::parse(&request.cursor) {
            Ok(ask) => ask,
            Err(_) if request.cannot_drop_it => StartFrom::Unreadable,
            Err(malformed) => {
                return Err(Failure::new(Reason::CursorMalformed, malformed.to_string()).field("cursor"));
            }
        };
        let share = self.enter(&request).await?;
        // What is too large for a peer shows only in the form it is sent in: the encoder sees to that.
        let settings = Settings {
            heartbeat: self.heartbeat(),
            message_max: usize::MAX,
            turn_bytes: self.limits.turn_bytes,
        };
        // What is no cursor may be a secret that went into the wrong place.
        let cursor = if ask == StartFrom::Unreadable { "unreadable" } else { request.cursor.as_str() };
        let reader = self.open(ask, &request.cursor, settings).await?;
        let user = request.identity.user.clone();
        let connection = Connection::open(self.edge.clone(), reader, request.identity, topics, self.limits)?;
        let connection = connection.sharing(share);
        tracing::debug!(connection = connection.name(), user, cursor, "connected");
        Ok(connection)
    }

    /// Counts the connection, and waits until it is its user's turn.
    async fn enter(&self, request: &Request) -> Result<Share, Failure> {
        let now = self.edge.clock.now().mono;
        let resumes = !request.cursor.is_empty();
        let (share, begins) = self.quotas.enter(&request.identity, request.address, resumes, now)?;
        if begins > now {
            self.edge.metrics.turns_awaited.inc();
            sleep_until(self.edge.clock.instant(begins)).await;
        }
        Ok(share)
    }

    /// Whether users can be served at all.
    ///
    /// # Errors
    ///
    /// Not yet.
    pub(crate) fn ready(&self) -> Result<(), Failure> {
        if self.edge.is_caught_up() {
            return Ok(());
        }
        let message =
            "this gateway has not caught up with its hub yet: try again soon, or at another gateway";
        Err(Failure::new(Reason::Overloaded, message).retry_after(NOT_READY_RETRY))
    }

    /// After this long without a frame, a reader is told where it stands.
    pub(crate) fn heartbeat(&self) -> Duration {
        let age = self.edge.read(self.edge.clock.now(), |window| window.bounds().age);
        self.heartbeat.min(age / TOLD_PER_AGE)
    }

    /// What `Welcome` says of the bounds in force.
    pub(crate) fn bounds(&self, event_bytes: u32, frame_bytes: usize) -> v1::Limits {
        let bounds = self.edge.read(self.edge.clock.now(), |window| window.bounds());
        let age = bounds.age;
        v1::Limits {
            max_event_bytes: event_bytes,
            max_frame_bytes: u32::try_from(frame_bytes).unwrap_or(u32::MAX),
            window_events: bounds.events,
            window_bytes: bounds.bytes,
            window_age: age.try_into().ok(),
        }
    }

    async fn open(&self, ask: StartFrom, text: &str, settings: Settings) -> Result<Reader, Failure> {
        if let StartFrom::At(cursor) = ask
            && self.read(|window| window.is_beyond(cursor))
        {
            match self.authority.judge(cursor).await {
                // The window may have come to it meanwhile: looking and opening are one step, or what it has come to
                // in between would be skipped.
                Verdict::Exists => {
                    return Ok(self.read(|window| {
                        if window.is_beyond(cursor) {
                            Reader::open_awaiting(window, cursor, settings)
                        } else {
                            Reader::open(window, ask, text, settings)
                        }
                    }));
                }
                // Whether it was there at the end of that epoch nobody can tell any more, and a gateway that is still in
                // it will be told of the end itself: who waits for that is told the same.
                Verdict::OtherEpoch => {
                    return Ok(self.read(|window| {
                        if window.find(ask, text).outcome == Outcome::Ahead {
                            Reader::open_awaiting(window, cursor, settings)
                        } else {
                            Reader::open(window, ask, text, settings)
                        }
                    }));
                }
                Verdict::Unknown => {}
                Verdict::Unreachable => {
                    let message = "the cursor is newer than what this gateway has, and the hub does not answer \
                                   whether it exists: try again, or at another gateway";
                    return Err(Failure::new(Reason::Overloaded, message).retry_after(NOT_READY_RETRY));
                }
            }
        }
        Ok(self.read(|window| Reader::open(window, ask, text, settings)))
    }

    fn read<R>(&self, look: impl FnOnce(&galaxy_push_core::window::Window) -> R) -> R {
        self.edge.read(self.edge.clock.now(), look)
    }
}
