//! Asks hubs which log they hold: all of them, for the driver and every so often beside it; and the one log that a client
//! follows, for whoever wants to know where it stands.
//!
//! Every question goes over a connection that is not the stream's (docs/adr/0013). Nothing is asked twice: what no answer
//! means is the link's business.

use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt as _;
use futures_util::stream::FuturesUnordered;
use galaxy_push_proto::v1::{HeadRequest, HeadResponse};
use tokio::sync::{Mutex, Notify, watch};
use tokio::time::{Instant, sleep, timeout, timeout_at};
use tokio_util::sync::CancellationToken;

use crate::publisher::{ANSWER_MAX_BYTES, HEAD};
use crate::random::Random;
use crate::transport::{Connection, Dialer};
use crate::{Door, Failure, Head, Status, Waited};

/// How often all hubs are asked, a quarter more or less.
const EVERY: Duration = Duration::from_secs(30);

/// How long one round may take.
const ROUND: Duration = Duration::from_secs(5);

/// How long the others are still waited for once a hub was found.
const GRACE: Duration = Duration::from_millis(100);

/// The hubs of one client.
#[derive(Debug)]
pub(crate) struct Doors {
    dialer: Dialer,
    namespace: String,
    status: watch::Receiver<Status>,
    /// The connection for [`Doors::head`], and to which hub.
    line: Mutex<Option<(usize, Connection)>>,
}

/// The hub that a stream is looked for.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Wanted<'a> {
    pub(crate) hub: usize,
    pub(crate) epoch: Option<&'a str>,
}

impl Wanted<'_> {
    /// Whether this answer needs no other.
    fn is_found(&self, hub: usize, door: &Door) -> bool {
        match self.epoch {
            Some(epoch) => door.epoch() == Some(epoch),
            None => hub == self.hub && matches!(door, Door::Mute | Door::Holds(_)),
        }
    }
}

impl Doors {
    pub(crate) fn new(dialer: Dialer, namespace: String, status: watch::Receiver<Status>) -> Arc<Self> {
        Arc::new(Self { dialer, namespace, status, line: Mutex::new(None) })
    }

    /// Asks every hub at once. Returns what was said when all have answered, when the hub that is wanted was found and the
    /// others had a moment more, or at the deadline.
    pub(crate) async fn ask(&self, wanted: Option<Wanted<'_>>, deadline: Instant) -> Vec<Option<Door>> {
        let hubs = self.dialer.hubs().len();
        let mut said = vec![None; hubs];
        let mut asking: FuturesUnordered<_> =
            (0..hubs).map(|hub| async move { (hub, self.ask_one(hub).await) }).collect();
        let (mut until, mut found) = (deadline, false);
        while let Ok(Some((hub, door))) = timeout_at(until, asking.next()).await {
            if !found && wanted.is_some_and(|wanted| wanted.is_found(hub, &door)) {
                (found, until) = (true, deadline.min(Instant::now() + GRACE));
            }
            said[hub] = Some(door);
        }
        if !found {
            let late = || Some(Door::Silent(Arc::new(Failure::TimedOut(Waited::Connect))));
            said.iter_mut().filter(|door| door.is_none()).for_each(|door| *door = late());
        }
        said
    }

    async fn ask_one(&self, hub: usize) -> Door {
        let asked = async {
            let mut connection = self.dialer.dial(hub).await?;
            self.request(&mut connection).await
        };
        match asked.await {
            Ok(head) if head.epoch.is_empty() => Door::Mute,
            Ok(head) => Door::Holds(head.epoch.into()),
            Err(Failure::Status(status)) if is_refusal(status.code) => Door::Mute,
            Err(failure) => Door::Silent(Arc::new(failure)),
        }
    }

    async fn request(&self, connection: &mut Connection) -> Result<HeadResponse, Failure> {
        let request = HeadRequest { namespace: self.namespace.clone() };
        connection.unary(HEAD, &request, ANSWER_MAX_BYTES).await
    }

    /// Where the log stands that the client follows. The hub of its stream is asked first; of the others only one that
    /// holds the same log has a say.
    pub(crate) async fn head(&self) -> Result<Head, Failure> {
        let (door, epoch) = {
            let status = self.status.borrow();
            (status.door.unwrap_or(status.hub), status.epoch.map(|epoch| epoch.to_string()))
        };
        let mut line = self.line.lock().await;
        let own = self.head_at(door, &mut line).await;
        if matches!((&own, &epoch), (Ok(head), Some(epoch)) if head.epoch == *epoch) || epoch.is_none() {
            return own;
        }
        for hub in (0..self.dialer.hubs().len()).filter(|hub| *hub != door) {
            if let Ok(head) = self.head_at(hub, &mut line).await
                && Some(&head.epoch) == epoch.as_ref()
            {
                return Ok(head);
            }
        }
        own
    }

    /// Keeps the connection of whoever answers.
    async fn head_at(&self, hub: usize, line: &mut Option<(usize, Connection)>) -> Result<Head, Failure> {
        // Taken out meanwhile: a question that is given up half way takes its connection with it.
        let kept = line.take().filter(|(at, _)| *at == hub);
        let answer = match kept {
            Some((_, mut connection)) => {
                let answer = self.request(&mut connection).await;
                answer.map(|head| (connection, head))
            }
            None => Err(Failure::Lost("there is no connection".to_owned())),
        };
        let (connection, head) = match answer {
            Ok(answer) => answer,
            // One that was kept may have ended since it was used last.
            Err(_) => {
                let mut connection = self.dialer.dial(hub).await?;
                let head = self.request(&mut connection).await?;
                (connection, head)
            }
        };
        *line = Some((hub, connection));
        Ok(Head { cursor: head.cursor, oldest: head.oldest, epoch: head.epoch })
    }
}

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
            let said = self.doors.ask(None, Instant::now() + ROUND).await;
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
