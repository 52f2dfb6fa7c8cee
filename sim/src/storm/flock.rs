//! The clients of a storm: each a `PushClient` with a connection of its own, and what each was given.

use std::collections::BTreeMap;
use std::ops::AddAssign;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context as _, bail, ensure};
use galaxy_push_client::{HandlerError, Item, PushClient, State};
use galaxy_push_testkit::history::{Name, Position};
use tokio::net::TcpStream;
use tokio::time::{Instant, sleep};

use crate::publisher::position;

/// The ids of events begin with this.
const ID: &str = "storm-";

/// The id of an event.
pub(super) fn id(number: u64) -> String {
    format!("{ID}{number}")
}

/// Where each acknowledged event lies: the first one has number 1.
#[derive(Debug, Default)]
pub(super) struct Acked(Vec<Position>);

/// What was counted over all clients.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Counted {
    /// Events acknowledged.
    pub(super) acked: usize,
    /// Received by a client.
    pub(super) received: u64,
    /// Told to a client as missing.
    pub(super) told: u64,
}

impl AddAssign for Counted {
    fn add_assign(&mut self, other: Self) {
        self.acked += other.acked;
        self.received += other.received;
        self.told += other.told;
    }
}

/// All clients.
#[derive(Debug)]
pub(super) struct Flock {
    clients: Vec<(PushClient, Arc<Given>)>,
    shared: Arc<Shared>,
}

/// What happened to any of them.
#[derive(Debug)]
struct Shared {
    started: Instant,
    /// Connections that were tried: two that ask the hubs for their logs, and one for the stream.
    dials: Mutex<Vec<Duration>>,
    /// Streams that began.
    returned: Mutex<Vec<Duration>>,
    ended: Mutex<Vec<Duration>>,
}

/// What one client was given.
#[derive(Debug, Default)]
struct Given {
    last: AtomicU64,
    items: Mutex<Vec<(u64, Position)>>,
    /// Gaps, as the position each begins at.
    gaps: Mutex<Vec<Position>>,
}

impl Acked {
    pub(super) fn push(&mut self, position: Position) {
        self.0.push(position);
    }

    pub(super) fn last_number(&self) -> u64 {
        self.0.len() as u64
    }

    /// How many lives of a log they lie in.
    pub(super) fn lives(&self) -> u64 {
        let changes = self.0.windows(2).filter(|pair| pair[0].epoch != pair[1].epoch).count() as u64;
        changes + u64::from(!self.0.is_empty())
    }
}

impl Flock {
    /// Starts them all at once.
    pub(super) fn start(clients: usize, hubs: &str) -> anyhow::Result<Self> {
        let shared = Arc::new(Shared {
            started: Instant::now(),
            dials: Mutex::default(),
            returned: Mutex::default(),
            ended: Mutex::default(),
        });
        let start = |number| {
            let (given, dialing, watching) = (Arc::new(Given::default()), shared.clone(), shared.clone());
            let taking = given.clone();
            let client = PushClient::builder(format!("storm-{number}"))
                .hub(hubs)
                // The hubs of a storm are two logs: whoever waited for its own would not be part of it.
                .leave_log_after(Duration::ZERO)
                .cursor("oldest")
                .connector(move |host: String, port: u16| {
                    note(&dialing.dials, dialing.started);
                    TcpStream::connect((host, port))
                })
                .start(move |item: Item| {
                    let taken = taking.take(&item).map_err(|error| HandlerError::msg(format!("{error:#}")));
                    async move { taken }
                })?;
            let mut status = client.status();
            tokio::spawn(async move {
                let mut was_live = false;
                while status.changed().await.is_ok() {
                    let is_live = matches!(status.borrow_and_update().state, State::Live | State::CatchingUp);
                    match (was_live, is_live) {
                        (true, false) => note(&watching.ended, watching.started),
                        (false, true) => note(&watching.returned, watching.started),
                        _ => {}
                    }
                    was_live = is_live;
                }
            });
            anyhow::Ok((client, given))
        };
        Ok(Self { clients: (0..clients).map(start).collect::<Result<_, _>>()?, shared })
    }

    /// Waits until each has the event of this number, or a later one.
    pub(super) async fn all_live(&self, number: u64, within: Duration) -> anyhow::Result<()> {
        let due = Instant::now() + within;
        loop {
            let lacks = |given: &Given| given.last.load(Ordering::Relaxed) < number;
            let behind = self.clients.iter().filter(|(_, given)| lacks(given)).count();
            if behind == 0 {
                return Ok(());
            }
            if Instant::now() >= due {
                let states = self.clients.iter().filter(|(_, given)| lacks(given));
                let states: Vec<_> =
                    states.take(3).map(|(client, _)| client.status().borrow().clone()).collect();
                bail!("{behind} clients lack event {number} after {within:?}; the first of them: {states:?}");
            }
            sleep(Duration::from_millis(5)).await;
        }
    }

    /// Now, on the clock of dials and returns.
    pub(super) fn begin(&self) -> Duration {
        self.shared.started.elapsed()
    }

    /// When connections were tried since then, in order.
    pub(super) fn dials_since(&self, begun: Duration) -> Vec<Duration> {
        since(&self.shared.dials, begun)
    }

    /// When streams began since then, in order.
    pub(super) fn returned_since(&self, begun: Duration) -> Vec<Duration> {
        since(&self.shared.returned, begun)
    }

    /// From the first stream that ended since then to the last.
    pub(super) fn ended_over(&self, begun: Duration) -> Option<Duration> {
        let ended = since(&self.shared.ended, begun);
        Some(*ended.last()? - *ended.first()?)
    }

    /// Every client has every event, once and in order, or was told that it is missing.
    pub(super) fn judge(&self, acked: &Acked) -> anyhow::Result<Counted> {
        let mut counted = Counted { acked: acked.0.len(), ..Counted::default() };
        for (number, (_, given)) in self.clients.iter().enumerate() {
            given.judge(acked, &mut counted).with_context(|| format!("client {number}"))?;
        }
        Ok(counted)
    }
}

impl Given {
    fn take(&self, item: &Item) -> anyhow::Result<()> {
        match item {
            Item::Event(frame) => {
                let view = frame.view().event().context("an event without one")?;
                let number = view.id().strip_prefix(ID).and_then(|number| number.parse().ok());
                let number = number.context("an event of somebody else")?;
                let place = position(frame.cursor()).context("an event without a position")?;
                lock(&self.items).push((number, place));
                self.last.fetch_max(number, Ordering::Relaxed);
            }
            Item::Gap(gap) => {
                if let Some(from) = position(&gap.from) {
                    lock(&self.gaps).push(from);
                }
            }
            _ => {}
        }
        Ok(())
    }

    fn judge(&self, acked: &Acked, counted: &mut Counted) -> anyhow::Result<()> {
        let (items, gaps) = (lock(&self.items), lock(&self.gaps));
        let mut last: BTreeMap<&Name, u64> = BTreeMap::new();
        for (number, place) in items.iter() {
            let before = last.insert(&place.epoch, place.seq).unwrap_or_default();
            ensure!(before < place.seq, "event {number} at {place} came after {before}");
        }
        let mut received: BTreeMap<(&Name, u64), u64> = BTreeMap::new();
        received.extend(items.iter().map(|(number, place)| ((&place.epoch, place.seq), *number)));
        for (number, place) in (1..).zip(&acked.0) {
            match received.get(&(&place.epoch, place.seq)) {
                Some(given) if *given == number => counted.received += 1,
                Some(given) => bail!("{place} is event {given} here, but was acknowledged as {number}"),
                None => {
                    let told = gaps.iter().any(|from| from.epoch == place.epoch && from.seq < place.seq);
                    ensure!(told, "event {number} at {place} is missing, and no gap said so");
                    counted.told += 1;
                }
            }
        }
        Ok(())
    }
}

fn note(times: &Mutex<Vec<Duration>>, started: Instant) {
    lock(times).push(started.elapsed());
}

fn since(times: &Mutex<Vec<Duration>>, begun: Duration) -> Vec<Duration> {
    let mut times: Vec<_> = lock(times).iter().copied().filter(|at| *at >= begun).collect();
    times.sort_unstable();
    times
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
