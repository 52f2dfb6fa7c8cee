//! From a user's request to a connection, or to a refusal: the same for every transport.
//!
//! The questions, in this order: is this gateway able to serve, is the session valid, are the topics granted, is it the
//! user's turn, from where does it read. Called by `surface`, which knows the transport and who the user is. Renders
//! nothing: it returns a [`Refusal`].

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use galaxy_push_core::cursor::{MalformedCursor, StartFrom};
use galaxy_push_core::reader::{Reader, Settings};
use galaxy_push_core::window::Outcome;
use galaxy_push_proto::v1;
use tokio::time::sleep_until;

use super::authority::{Authority, PositionStatus};
use crate::state::connection::{Connection, Limits};
use crate::state::edge::Edge;
use crate::state::grants::Identity;
use crate::state::quotas::{Quotas, Share};
use crate::state::refusal::Refusal;

/// A reader for which nothing comes is sent `Progress` at least this often per age of the window.
const PROGRESS_PER_AGE: u32 = 8;

/// What a user asks for.
#[derive(Clone, Debug, Default)]
pub(crate) struct Request {
    pub(crate) identity: Identity,
    pub(crate) topics: Vec<String>,
    pub(crate) cursor: String,
    /// A browser or a polyfill presents the cursor by itself, so its user could not drop it when it is refused.
    pub(crate) cursor_is_automatic: bool,
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
    /// Why not.
    pub(crate) async fn admit(&self, mut request: Request) -> Result<Connection, Refusal> {
        self.ready()?;
        if !matches!(request.namespace.as_str(), "" | "default") {
            return Err(Refusal::UnknownNamespace);
        }
        self.edge.routes.check(&request.identity, self.edge.clock.now().unix_ms)?;
        let topics: BTreeSet<String> = std::mem::take(&mut request.topics).into_iter().collect();
        request.identity.grants.check(&topics, self.limits.topics)?;
        let ask = match StartFrom::parse(&request.cursor) {
            Ok(ask) => ask,
            Err(_) if request.cursor_is_automatic => StartFrom::Unreadable,
            Err(MalformedCursor) => return Err(Refusal::CursorMalformed),
        };
        let share = self.await_turn(&request).await?;
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

    /// Counts the connection against its user's limits, and waits until it is the user's turn.
    async fn await_turn(&self, request: &Request) -> Result<Share, Refusal> {
        let now = self.edge.clock.now().mono;
        let resumes = !request.cursor.is_empty();
        let (share, begins) = self.quotas.admit(&request.identity, request.address, resumes, now)?;
        if begins > now {
            self.edge.counters.turns_awaited.inc();
            sleep_until(self.edge.clock.instant(begins)).await;
        }
        Ok(share)
    }

    /// Whether users can be served at all.
    ///
    /// # Errors
    ///
    /// Not yet.
    pub(crate) fn ready(&self) -> Result<(), Refusal> {
        if self.edge.is_caught_up() {
            return Ok(());
        }
        Err(Refusal::NotReady)
    }

    /// After this long without a frame, a reader is sent `Progress`.
    pub(crate) fn heartbeat(&self) -> Duration {
        let age = self.edge.read(self.edge.clock.now(), |window| window.bounds().age);
        self.heartbeat.min(age / PROGRESS_PER_AGE)
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

    /// Opens a reader. A cursor beyond this gateway's window is early, or it is wrong: the hub is asked which.
    async fn open(&self, ask: StartFrom, text: &str, settings: Settings) -> Result<Reader, Refusal> {
        if let StartFrom::At(cursor) = ask
            && self.read(|window| window.is_beyond(cursor))
        {
            match self.authority.judge(cursor).await {
                // The window may have come to it while the hub was asked. So the comparison and the opening are one step
                // under the window's lock: otherwise what is appended between the two would be skipped.
                PositionStatus::Exists => {
                    return Ok(self.read(|window| {
                        if window.is_beyond(cursor) {
                            Reader::open_awaiting(window, cursor, settings)
                        } else {
                            Reader::open(window, ask, text, settings)
                        }
                    }));
                }
                // The hub has begun another epoch, of which this gateway has not heard yet:
                //
                //   this gateway's window     epoch 1, up to 7
                //   the user's cursor         epoch 1, 9: beyond it
                //   the hub's head            epoch 2
                //
                // Whether 9 existed nobody can tell any more. But the stream from the hub will bring the gap from epoch 1
                // to epoch 2, so the user waits for it in epoch 1, and is told the same as everybody. If the gap has come
                // while the hub was asked, the window itself tells it.
                PositionStatus::OtherEpoch => {
                    return Ok(self.read(|window| {
                        if window.find(ask, text).outcome == Outcome::Ahead {
                            Reader::open_awaiting(window, cursor, settings)
                        } else {
                            Reader::open(window, ask, text, settings)
                        }
                    }));
                }
                PositionStatus::Unknown => {}
                PositionStatus::Unreachable => return Err(Refusal::HubUnreachable),
            }
        }
        Ok(self.read(|window| Reader::open(window, ask, text, settings)))
    }

    fn read<R>(&self, look: impl FnOnce(&galaxy_push_core::window::Window) -> R) -> R {
        self.edge.read(self.edge.clock.now(), look)
    }
}
