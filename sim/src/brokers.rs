//! Simulated brokers: three of them keep the streams of a log as JetStream does, and hubs read and write these by the real rules.
//!
//! What hubs make of the stream is the store's own code: its [`Door`](galaxy_push_store::nats::Door), driven by its `Driver`, the fence
//! and the standing records as one hub sees them, and what it believes of what a leader says. Here is only what lies around it: brokers
//! and connections, and what befalls them (`cluster`), one hub's store (`store`, `fence`, `records`), and what the stream holds in truth
//! (`truth`), folded by rules written anew from `docs/adr/0018`.

mod cluster;
mod fence;
mod questions;
mod records;
mod store;
mod stream;
#[cfg(test)]
mod tests;
mod truth;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use galaxy_push_core::cursor::Epoch;
use galaxy_push_store::nats::stream_view::StreamView;
use galaxy_push_testkit::Recorder;
use tokio::sync::oneshot;

use crate::rng::{Rng, now_us};
use cluster::{Ack, Cluster, Request, Said, To};
use questions::Questions;
use stream::{Entry, Which};

/// How a world's brokers are.
#[derive(Clone, Copy, Debug)]
pub struct Plan {
    /// How long the log keeps messages; `None`: longer than the world lasts.
    pub age: Option<Duration>,
    /// How many messages the log keeps at most.
    pub messages: Option<usize>,
    /// By how much a hub's broker may lag behind the others.
    pub lag_max: Duration,
    /// By how many milliseconds the hubs' wall clocks are ahead, all alike.
    pub hubs_ahead_ms: i64,
}

/// The brokers. Clones are the same ones.
#[derive(Clone)]
#[expect(missing_debug_implementations, reason = "what it holds is of no use to read")]
pub struct Brokers {
    cluster: Arc<Mutex<Cluster>>,
    epoch: Epoch,
    questions: Questions,
}

impl Brokers {
    /// Brokers with an empty log. What it comes to hold is written down as the store's.
    #[must_use]
    pub fn new(seed: u64, plan: Plan, recorder: Recorder) -> Self {
        let mut rng = Rng::new(seed, "brokers");
        let epoch = Epoch::with_holes(u128::from(rng.draw()) << 64 | u128::from(rng.draw()));
        let cluster = Cluster::new(rng, plan, epoch, recorder);
        Self { cluster: Arc::new(Mutex::new(cluster)), epoch, questions: Questions::default() }
    }

    /// Lets everything happen that is due by now. Called before each step of the world.
    pub fn advance(&self, now: Duration) {
        self.lock().advance(now.as_micros() as u64);
    }

    /// What was met, and how often.
    #[must_use]
    pub fn met(&self) -> BTreeMap<&'static str, u64> {
        self.lock().met.clone()
    }

    /// The leader steps down: until then nobody leads.
    pub fn step_down(&self, now: Duration, until: Duration) {
        self.lock().step_down(now.as_micros() as u64, until.as_micros() as u64);
    }

    /// The leader is cut off from the other brokers until then, and some of the hubs with it.
    pub fn cut_leader(&self, now: Duration, until: Duration) {
        self.lock().cut_leader(now.as_micros() as u64, until.as_micros() as u64);
    }

    /// Acknowledgements are lost now and then until then.
    pub fn lose_acks(&self, until: Duration) {
        self.lock().acks_lost_until = until.as_micros() as u64;
    }

    /// A hub loses its connection in a moment, and has another one from then on.
    pub fn disconnect(&self, hub: &str, now: Duration, until: Duration) {
        let mut cluster = self.lock();
        if let Some(hub) = cluster.name(hub) {
            cluster.stall(hub, now.as_micros() as u64, until.as_micros() as u64);
        }
    }

    /// Nothing of the log comes to a hub until then, or nothing of the fence.
    pub fn stop_consumer(&self, hub: &str, until: Duration) {
        let mut cluster = self.lock();
        if let Some(hub) = cluster.name(hub) {
            cluster.stop(hub, until.as_micros() as u64);
        }
    }

    /// A hub's process connects. `None`: it finds no leader.
    #[must_use]
    pub fn attach(&self, hub: &'static str) -> Option<At> {
        let life = self.lock().attach(hub);
        let at = At { brokers: self.clone(), hub, life };
        at.is_led().then_some(at)
    }

    fn lock(&self) -> MutexGuard<'_, Cluster> {
        self.cluster.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// How one life of a hub reaches the brokers. Clones are the same.
#[derive(Clone)]
#[expect(missing_debug_implementations, reason = "what it holds is of no use to read")]
pub struct At {
    brokers: Brokers,
    hub: &'static str,
    life: u64,
}

impl At {
    fn lock(&self) -> MutexGuard<'_, Cluster> {
        self.brokers.lock()
    }

    const fn epoch(&self) -> Epoch {
        self.brokers.epoch
    }

    fn meets(&self, what: &'static str) {
        self.lock().meets(what);
    }

    fn is_connected(&self) -> bool {
        self.lock().link(self.hub).is_connected(self.life)
    }

    /// How many connections the hub has had.
    fn made(&self) -> u64 {
        self.lock().link(self.hub).made
    }

    /// Whether it reaches a leader that has a majority.
    fn is_led(&self) -> bool {
        self.lock().is_led(self.hub, now_us())
    }

    /// Sends a message, which travels behind those before it.
    fn send(&self, which: Which, key: &str, expected: Option<u64>, payload: Bytes, to: To) {
        if self.is_connected() {
            let request = Request { which, key: key.into(), expected, payload, hub: self.hub, to };
            self.lock().send(request, now_us());
        }
    }

    /// As [`At::send`], to write a key whose last value has this revision. The answer may never come.
    fn write(&self, which: Which, key: &str, expected: u64, payload: Vec<u8>) -> oneshot::Receiver<Said> {
        let (to, answer) = oneshot::channel();
        self.send(which, key, Some(expected), payload.into(), To::Asker(to));
        answer
    }

    /// What was answered to the packs.
    fn take_acks(&self) -> Vec<Ack> {
        if self.is_connected() { self.lock().take_acks(self.hub, now_us()) } else { Vec::new() }
    }

    /// What the leader says of the log: the one that this hub reaches.
    fn look(&self) -> Option<StreamView> {
        self.lock().look(self.hub, self.brokers.epoch, now_us())
    }

    /// The last value of a key, by the leader that this hub reaches. `Err`: it reaches none.
    fn read(&self, which: Which, key: &str) -> Result<Option<(u64, Bytes)>, ()> {
        self.lock().read(self.hub, which, key, now_us())
    }

    /// All values there are, by a leader that has a majority. `None`: this hub reaches none.
    fn read_all(&self, which: Which) -> Option<Vec<Entry>> {
        if !self.is_led() {
            return None;
        }
        let cluster = self.lock();
        let stream = cluster.stream(which);
        Some(stream.read(1, stream.last()).cloned().collect())
    }

    /// What of a stream has come to the hub's broker from this number on, and how much more is to follow.
    fn deliver(&self, which: Which, next: u64, most: usize) -> (Vec<Entry>, u64) {
        if self.is_connected() { self.lock().deliver(self.hub, which, next, most) } else { (Vec::new(), 0) }
    }

    /// The number of the first message from this one on, by the leader. `Err`: it does not say.
    fn next_from(&self, number: u64) -> Result<Option<u64>, ()> {
        self.lock().next_from(self.hub, number, now_us())
    }

    /// Deletes a value, unless it was written over.
    fn delete(&self, revision: u64) {
        if self.is_led() {
            self.lock().stream_mut(Which::Records).delete(revision);
        }
    }

    /// How long a question to the brokers takes.
    fn latency(&self) -> Duration {
        self.lock().rng.between(Duration::from_millis(1), Duration::from_millis(15))
    }
}
