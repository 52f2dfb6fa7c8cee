//! What hubs ask each other: whether a stream is alive ([`Fence::ask`](crate::Fence::ask)).
//!
//! Messages of NATS itself, which nobody keeps: a hub listens to `PREFIX.default.hub.HUB.>`, and whoever asks it says on which subject
//! of its own the answer is wanted. Where nobody listens the broker says so at once. Whatever goes wrong, the answer is *no such
//! stream*, in time.
//!
//! A hub whose user may not do that asks nobody, and is asked by nobody: it finds that out by asking itself, once for each connection,
//! and says so.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_nats::{Message as Delivered, StatusCode, Subscriber};
use futures_util::StreamExt as _;
use futures_util::future::{BoxFuture, FutureExt as _};
use futures_util::stream::FuturesUnordered;
use tokio::sync::oneshot;
use tokio::task::unconstrained;
use tokio::time::{Instant, MissedTickBehavior, interval, sleep, timeout};

use super::connect::Link;
use super::stream::NAMESPACE;
use super::{Notice, Options};
use crate::Sink;
use crate::fence::{ASKED_WITHIN, PINGED_WITHIN, Question, Stream};
use crate::nats::HubId;
use crate::nats::question::{Answer, Asked};

/// The most questions of this hub that wait for an answer: whoever comes beyond them is judged as if nobody had answered.
const WAITING_MAX: usize = 4_096;

/// The most questions of others that wait for a stream to answer a ping, each for 2 s at most.
const ANSWERING_MAX: usize = 1_024;

/// A question is no larger: two names of 255 bytes.
const QUESTION_BYTES_MAX: usize = 1 << 10;

/// How often it looks whether it hears itself.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// A hub that has not heard itself for so long may not ask, or so it is taken until it does.
const HEARD_WITHIN: Duration = Duration::from_secs(2);

/// How long it then waits before it asks itself again.
const PROBE_AGAIN: Duration = Duration::from_secs(30);

/// How long it waits before it listens anew.
const PAUSE: Duration = Duration::from_millis(100);

/// The questions and answers of one hub.
#[derive(Debug)]
pub(super) struct Probes {
    hub: HubId,
    link: Link,
    /// What the subjects of all hubs begin with.
    prefix: String,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    /// The latest question.
    number: u64,
    waiting: BTreeMap<u64, oneshot::Sender<Option<Stream>>>,
    hearing: Hearing,
}

/// Whether a hub hears itself on the connection that there is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Hearing {
    /// Not known yet.
    #[default]
    Unknown,
    Heard,
    /// Its user may not publish or not subscribe: nobody is asked in vain.
    Mute,
}

/// A question that waits. It does not any more when this is dropped.
struct Waiting<'a> {
    asking: &'a Probes,
    number: u64,
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.asking.lock().waiting.remove(&self.number);
    }
}

impl Probes {
    pub(super) fn new(hub: HubId, link: Link, options: &Options) -> Self {
        let prefix = format!("{}.{NAMESPACE}.hub.", options.prefix);
        Self { hub, link, prefix, state: Mutex::default() }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn subject(&self, hub: HubId, what: &str) -> String {
        format!("{}{:032x}.{what}", self.prefix, hub.0)
    }

    /// Asks another hub. `None`: it has no such stream, or nobody answered in time.
    ///
    /// Cancel safe.
    pub(super) async fn ask(&self, hub: HubId, question: Question) -> Option<Stream> {
        let within = if question.pings { PINGED_WITHIN } else { ASKED_WITHIN };
        let (waiting, answer) = self.wait()?;
        let number = waiting.number;
        let bytes = Asked { from: self.hub, number, question }.write();
        let reply = self.subject(self.hub, &format!("answer.{number}"));
        let asked = async {
            self.link.client.publish_with_reply(self.subject(hub, "ask"), reply, bytes.into()).await.ok()?;
            answer.await.ok()?
        };
        timeout(within, asked).await.ok()?
    }

    fn wait(&self) -> Option<(Waiting<'_>, oneshot::Receiver<Option<Stream>>)> {
        let mut state = self.lock();
        if state.hearing == Hearing::Mute || state.waiting.len() >= WAITING_MAX {
            return None;
        }
        state.number += 1;
        let (number, (tell, told)) = (state.number, oneshot::channel());
        state.waiting.insert(number, tell);
        drop(state);
        Some((Waiting { asking: self, number }, told))
    }

    /// Answers what others ask, by this sink, for as long as it is polled.
    pub(super) async fn run(self: Arc<Self>, sink: Arc<dyn Sink>, options: Options) {
        loop {
            match self.link.client.subscribe(self.subject(self.hub, ">")).await {
                Ok(messages) => Ear { asking: &self, sink: &*sink, options: &options }.listen(messages).await,
                Err(error) => {
                    options.notice(&Notice::Trouble(format!("other hubs cannot ask this one: {error}")))
                }
            }
            sleep(PAUSE).await;
        }
    }

    /// Sends it, if that can be done without waiting. Returns whether it was.
    fn send(&self, subject: String, bytes: Vec<u8>) -> bool {
        let sent = unconstrained(self.link.client.publish(subject, bytes.into())).now_or_never();
        matches!(sent, Some(Ok(())))
    }
}

/// An answer in the making, until it is sent.
type Answering = BoxFuture<'static, ()>;

/// Listens on one subscription.
struct Ear<'a> {
    asking: &'a Probes,
    sink: &'a dyn Sink,
    options: &'a Options,
}

/// What a hub has said to itself on the connection that there is.
#[derive(Debug, Default)]
struct Probe {
    sent: Option<Instant>,
    is_told: bool,
}

impl Ear<'_> {
    /// Returns when nothing more can come.
    async fn listen(&self, mut messages: Subscriber) {
        let mut bell = self.asking.link.bell.clone();
        let mut answers = FuturesUnordered::<Answering>::new();
        let mut ticks = interval(LOOK_EVERY);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut probe = Probe::default();
        loop {
            tokio::select! {
                biased;
                changed = bell.changed() => {
                    if changed.is_err() {
                        return;
                    }
                    self.asking.lock().hearing = Hearing::Unknown;
                    probe = Probe::default();
                    self.probe(&mut probe);
                }
                _ = ticks.tick() => self.probe(&mut probe),
                Some(()) = answers.next(), if !answers.is_empty() => {}
                message = messages.next() => {
                    let Some(message) = message else { return };
                    if let Some(answering) = self.hear(&message)
                        && answers.len() < ANSWERING_MAX
                    {
                        answers.push(answering);
                    }
                }
            }
        }
    }

    /// Asks itself, unless it hears itself, and says that it does not.
    fn probe(&self, probe: &mut Probe) {
        let asking = self.asking;
        if asking.lock().hearing == Hearing::Heard || !asking.link.is_connected() {
            return;
        }
        let since = probe.sent.map(|sent| sent.elapsed());
        if since.is_none_or(|since| since >= PROBE_AGAIN) {
            // A full connection proves nothing of what its user may do.
            if asking.send(asking.subject(asking.hub, "probe"), Vec::new()) {
                probe.sent = Some(Instant::now());
            }
        }
        if since.is_some_and(|since| since >= HEARD_WITHIN) && !std::mem::replace(&mut probe.is_told, true) {
            asking.lock().hearing = Hearing::Mute;
            self.options.notice(&Notice::Unasked { subject: format!("{}>", asking.prefix) });
        }
    }

    /// Takes one message. Returns what is to be answered.
    fn hear(&self, message: &Delivered) -> Option<Answering> {
        let own = self.asking.subject(self.asking.hub, "");
        match message.subject.strip_prefix(&own)? {
            "probe" => {
                self.asking.lock().hearing = Hearing::Heard;
                None
            }
            "ask" if message.payload.len() <= QUESTION_BYTES_MAX => {
                let Asked { from, number, question } = Asked::read(&message.payload).ok()?;
                let within = if question.pings { PINGED_WITHIN } else { ASKED_WITHIN };
                let (answer, client) = (self.sink.asked(&question), self.asking.link.client.clone());
                let subject = self.asking.subject(from, &format!("answer.{number}"));
                // Waits for its turn where much is published: so long as somebody waits for it.
                let sent = async move { client.publish(subject, Answer(answer.await).write().into()).await };
                Some(timeout(within, sent).map(drop).boxed())
            }
            answer => {
                let number = answer.strip_prefix("answer.")?.parse().ok()?;
                let stream = match message.status {
                    Some(StatusCode::NO_RESPONDERS) => None, // the broker says so of itself
                    _ => Answer::read(&message.payload).ok()?.0,
                };
                let _gone = self.asking.lock().waiting.remove(&number)?.send(stream);
                None
            }
        }
    }
}
