//! Asks hubs which log they hold: all of them, for the driver and every so often beside it; and the one log that a client
//! follows, for whoever wants to know where it stands.
//!
//! No question goes over a connection that has a stream (docs/adr/0013); one that found the hub for a stream is handed on
//! to it. Nothing is asked twice: what no answer means is the link's business.
//!
//! ```text
//! before a try         ask: every hub at once; ends 100 ms after one was found that needs no other answer
//! every 30 s           Rounds: every hub, each over a new connection, so that a split shows while all is well
//! PushClient::head     the hub of the stream, and 300 ms later the others that hold the same log
//! ```

use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt as _;
use futures_util::stream::FuturesUnordered;
use galaxy_push_proto::v1::{HeadRequest, HeadResponse};
use tokio::sync::{Mutex, Notify, watch};
use tokio::time::{Instant, sleep, timeout, timeout_at};
use tokio_util::sync::CancellationToken;

use crate::random::Random;
use crate::rpc::{ANSWER_MAX_BYTES, HEAD};
use crate::transport::{Connection, Dialer};
use crate::{Door, Failure, Head, Status, Waited};

/// How often all hubs are asked, a quarter more or less.
const EVERY: Duration = Duration::from_secs(30);

/// How long one round may take.
const ROUND: Duration = Duration::from_secs(5);

/// How long the others are still waited for once a hub was found.
const GRACE: Duration = Duration::from_millis(100);

/// How long the hub of the stream is asked alone where its log stands. Whoever waits for that may have no more than 1 s.
const HEAD_START: Duration = Duration::from_millis(300);

/// The hubs of one client.
#[derive(Debug)]
pub(crate) struct Doors {
    dialer: Dialer,
    namespace: String,
    status: watch::Receiver<Status>,
    /// The connections for [`Doors::head`], to each hub that has answered.
    kept: Mutex<Vec<Option<Connection>>>,
}

/// What the hubs said, and the connections over which those said it that answered.
#[derive(Debug)]
pub(crate) struct HubAnswers {
    /// `None`: nothing yet.
    pub(crate) said: Vec<Option<Door>>,
    pub(crate) connections: Vec<Option<Connection>>,
}

/// The hub that a stream is looked for, and the log that it should hold.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Wanted<'a> {
    pub(crate) hub: usize,
    pub(crate) epoch: Option<&'a str>,
}

impl Wanted<'_> {
    /// Whether this answer needs no other.
    fn is_found(&self, hub: usize, door: &Door) -> bool {
        match self.epoch {
            Some(epoch) => matches!(door, Door::Holds(held) if **held == *epoch),
            None => hub == self.hub && matches!(door, Door::Mute | Door::Holds(_)),
        }
    }
}

impl Doors {
    pub(crate) fn new(dialer: Dialer, namespace: String, status: watch::Receiver<Status>) -> Arc<Self> {
        let kept = dialer.hubs().iter().map(|_| None).collect();
        Arc::new(Self { dialer, namespace, status, kept: Mutex::new(kept) })
    }

    /// Asks every hub at once. Returns what was said when all have answered, when the hub that is wanted was found and the
    /// others had a moment more, or at the deadline.
    pub(crate) async fn ask(&self, wanted: Option<Wanted<'_>>, deadline: Instant) -> HubAnswers {
        let hubs = self.dialer.hubs().len();
        let (mut said, mut connections) = (vec![None; hubs], Vec::new());
        connections.resize_with(hubs, || None);
        let mut asking: FuturesUnordered<_> =
            (0..hubs).map(|hub| async move { (hub, self.ask_one(hub).await) }).collect();
        let (mut until, mut found) = (deadline, false);
        while let Ok(Some((hub, (door, connection)))) = timeout_at(until, asking.next()).await {
            if !found && wanted.is_some_and(|wanted| wanted.is_found(hub, &door)) {
                (found, until) = (true, deadline.min(Instant::now() + GRACE));
            }
            (said[hub], connections[hub]) = (Some(door), connection);
        }
        if !found {
            let late = || Some(Door::Silent(Arc::new(Failure::TimedOut(Waited::Connect))));
            said.iter_mut().filter(|door| door.is_none()).for_each(|door| *door = late());
        }
        HubAnswers { said, connections }
    }

    async fn ask_one(&self, hub: usize) -> (Door, Option<Connection>) {
        let mut connection = match self.dialer.dial(hub).await {
            Ok(connection) => connection,
            Err(failure) => return (Door::Silent(Arc::new(failure)), None),
        };
        let door = match self.request(&mut connection).await {
            Ok(head) if head.epoch.is_empty() => Door::Mute,
            Ok(head) if head.stale => Door::Stale(head.epoch.into()),
            Ok(head) => Door::Holds(head.epoch.into()),
            Err(Failure::Status(status)) if is_refusal(status.code) => Door::Mute,
            Err(Failure::Status(status)) if status.code == RESOURCE_EXHAUSTED => self.as_before(hub),
            Err(failure) => return (Door::Silent(Arc::new(failure)), None),
        };
        (door, Some(connection))
    }

    /// A hub that is asked too often is there, and holds what it held before as far as anybody knows.
    fn as_before(&self, hub: usize) -> Door {
        let known = self.status.borrow().doors.get(hub).cloned();
        known.filter(|door| matches!(door, Door::Holds(_) | Door::Stale(_))).unwrap_or(Door::Mute)
    }

    async fn request(&self, connection: &mut Connection) -> Result<HeadResponse, Failure> {
        let request = HeadRequest { namespace: self.namespace.clone() };
        connection.unary(HEAD, &request, ANSWER_MAX_BYTES).await
    }

    /// Where the log stands that the client follows. The hub of its stream is asked first, and the others beside it when it
    /// does not answer at once; of those only one that holds the same log has a say, and none that cannot reach its store.
    pub(crate) async fn head(&self) -> Result<Head, Failure> {
        let (door, epoch) = {
            let status = self.status.borrow();
            (status.door.unwrap_or(status.hub), status.epoch.map(|epoch| epoch.to_string()))
        };
        let mut kept = self.kept.lock().await;
        let mut others: Vec<_> = (0..kept.len()).filter(|hub| *hub != door && epoch.is_some()).collect();
        // Connections are taken out meanwhile: a question that is given up half way takes its connection with it.
        let mut asking = FuturesUnordered::new();
        asking.push(self.head_at(door, kept[door].take()));
        let mut next = timeout(HEAD_START, asking.next()).await.ok().flatten();
        let mut own = None;
        loop {
            match next {
                Some((hub, Ok((connection, head)))) => {
                    kept[hub] = Some(connection);
                    if epoch.as_ref().is_none_or(|epoch| head.epoch == *epoch) {
                        return Ok(head);
                    }
                    own = own.or((hub == door).then_some(Ok(head)));
                }
                Some((hub, Err(failure))) => own = own.or((hub == door).then_some(Err(failure))),
                None => {}
            }
            for hub in others.drain(..) {
                asking.push(self.head_at(hub, kept[hub].take()));
            }
            match own {
                Some(own) if asking.is_empty() => return own,
                _ => next = asking.next().await,
            }
        }
    }

    /// Asks one hub, over the connection that was kept if there is one; hands it back for the next question.
    async fn head_at(
        &self,
        hub: usize,
        kept: Option<Connection>,
    ) -> (usize, Result<(Connection, Head), Failure>) {
        let asked = async {
            // One that was kept may have ended since it was used last.
            if let Some(mut connection) = kept
                && let Ok(head) = self.request(&mut connection).await
            {
                return known(head).map(|head| (connection, head));
            }
            let mut connection = self.dialer.dial(hub).await?;
            let head = self.request(&mut connection).await?;
            known(head).map(|head| (connection, head))
        };
        (hub, asked.await)
    }
}

/// Where the log stands, if the hub can say: one that cannot reach its store knows only what it has itself.
fn known(head: HeadResponse) -> Result<Head, Failure> {
    if head.stale { Err(Failure::Stale) } else { Ok(Head::of(head)) }
}

const RESOURCE_EXHAUSTED: i32 = 8;

/// The hub answers, but not this question, or not to this peer.
fn is_refusal(code: i32) -> bool {
    const PERMISSION_DENIED: i32 = 7;
    const UNIMPLEMENTED: i32 = 12;
    matches!(code, PERMISSION_DENIED | UNIMPLEMENTED)
}

/// The task that asks all hubs every so often.
pub(crate) struct Rounds {
    pub(crate) doors: Arc<Doors>,
    pub(crate) said: watch::Sender<Vec<Option<Door>>>,
    /// Asks for a round at once.
    pub(crate) now: Arc<Notify>,
    pub(crate) random: Random,
    pub(crate) stop: CancellationToken,
}

impl Rounds {
    /// Runs until the client stops.
    pub(crate) async fn run(mut self) {
        let stop = self.stop.clone();
        tokio::select! {
            biased;
            () = stop.cancelled() => {}
            () = self.ask_on() => {}
        }
    }

    async fn ask_on(&mut self) {
        loop {
            let _ = timeout(self.pause(), self.now.notified()).await;
            let said = self.doors.ask(None, Instant::now() + ROUND).await.said;
            if self.said.send(said).is_err() {
                return sleep(EVERY).await; // the driver is gone, and the stop follows
            }
        }
    }

    /// A quarter more or less, so that a thousand gateways that came back together do not ask together.
    fn pause(&mut self) -> Duration {
        let part = u32::try_from(self.random.next() >> 32).unwrap_or(u32::MAX);
        EVERY / 4 * 3 + (EVERY / 2).mul_f64(f64::from(part) / f64::from(u32::MAX))
    }
}
