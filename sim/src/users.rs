//! Users as they are in the field: they connect, read, lose their connection, and come back with the last cursor.
//!
//! Works over any byte stream, simulated or real. A user judges nothing; it writes down what it is sent.

mod sse;
pub mod token;
mod ws;

use std::future::Future;
use std::io;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use galaxy_push_testkit::Recorder;
use galaxy_push_testkit::history::{Close, Cursor, Hop, Name, Open, Token, What};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time::{Instant, sleep, timeout_at};

use crate::frames::{self, StreamLog};
use crate::rng::{Rng, now_unix_ms, now_us};
use crate::steady::{Pace, Steady, Taken};

/// By so much longer lives a token that its user keeps from connection to connection.
const LONGER_KEPT: Duration = Duration::from_secs(60);

/// What nobody with narrow grants may ask for, though much is said there.
const FORBIDDEN: &str = "orders/1";
/// Whoever comes back at once does so within this time.
const AT_ONCE: Duration = Duration::from_millis(50);

/// How often, in percent of connections, a page is loaded again.
const LOADED_PERCENT: u64 = 30;

/// One frame in so many is followed by a long pause, of this length.
const LONG_PAUSE_ONE_IN: u64 = 60;
const LONG_PAUSE: (Duration, Duration) = (Duration::from_secs(4), Duration::from_secs(8));

/// How a user is connected.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Transport {
    /// Server-sent events.
    Sse,
    /// WebSocket, `push.v1.json`.
    WsJson,
    /// WebSocket, `push.v1.proto`.
    WsProto,
}

/// Who a user is and how it behaves.
#[derive(Clone, Debug)]
pub struct Plan {
    /// Names this chain of connections in the history.
    pub reader: String,
    /// Its user id.
    pub user: String,
    /// The topics it asks for from the start.
    pub topics: Vec<String>,
    /// A topic it asks for once it is live; WebSocket only.
    pub later_topic: Option<String>,
    /// How it is connected.
    pub transport: Transport,
    /// The gateways it may connect to, as host and port.
    pub gateways: Vec<(String, u16)>,
    /// Whether it goes to another gateway each time than the time before, if there is one.
    pub roams: bool,
    /// Gives a connection up when nothing came for this long.
    pub silence: Duration,
    /// While this time (since the user started) has not passed, it cuts its own connection now and then.
    pub cuts_until: Duration,
    /// How often a connection is cut, in percent; the others are left alone.
    pub cut_percent: u64,
    /// How long a connection that is cut has lived: between these.
    pub cut_after: (Duration, Duration),
    /// How often, in percent, it stops reading for up to two seconds after a frame, while it may be cut.
    pub pause_percent: u64,
    /// How often, in percent of connections, it stays away for some seconds before the next one, while it may be cut.
    pub away_percent: u64,
    /// How long it stays away then: between these.
    pub away: (Duration, Duration),
    /// How slowly it takes bytes, all the time, if it is slow but steady.
    pub steady: Option<Pace>,
    /// What only some users do.
    pub habits: Habits,
}

/// What only some users do. None of it by default.
#[derive(Clone, Debug, Default)]
pub struct Habits {
    /// The session it belongs to; empty: none.
    pub session: String,
    /// The largest message it takes, in bytes; 0: as the contract says. WebSocket only.
    pub receive_bytes_max: u32,
    /// How long its tokens live; none: it needs no token. Over WebSocket it refreshes them.
    pub token_life: Option<Duration>,
    /// What its tokens grant, if not every topic: names, or beginnings with one trailing `*`.
    pub grants: Option<Vec<String>>,
    /// What it does about the end of its session, while it may be cut, if it does not just sign in anew.
    pub stubborn: Option<(token::Stubborn, token::Stubbornness)>,
    /// How often, in percent of frames, it gives a topic up, while it may be cut. WebSocket only.
    pub fickle_percent: u64,
    /// How often, in percent of connections, it presents a cursor that nobody gave it, while it may be cut.
    pub strays_percent: u64,
    /// Cursors that users left lying around: whoever strays may take one of somebody else.
    pub lost: Lost,
    /// Whether it comes back at once and not within a second.
    pub eager: bool,
    /// Whether it stops reading for 4 to 8 s now and then, while it may be cut.
    pub long_pauses: bool,
    /// How long it takes over each frame at most, while it may be cut.
    pub drags: Duration,
    /// How it names its cursor. Server-sent events only.
    pub page: Page,
}

/// How a page names the cursor from which its `EventSource` reads. By default with the header alone, as for a URL without any.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Page {
    /// The URL has a cursor, and is the same for each reconnect until the page is loaded again.
    pub has_url: bool,
    /// A polyfill that sends `lastEventId=` in the URL, for it cannot set the header.
    pub polyfill: bool,
    /// All events are to be plain messages.
    pub messages: bool,
}

/// Cursors of everybody.
#[derive(Clone, Debug, Default)]
pub struct Lost(Arc<Mutex<Vec<String>>>);

impl Lost {
    /// No more than these are kept.
    const MOST: usize = 64;

    fn leave(&self, cursor: &str, rng: &mut Rng) {
        let mut lost = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if lost.len() < Self::MOST {
            lost.push(cursor.to_owned());
        } else if let Some(older) = lost.get_mut(rng.below(Self::MOST as u64) as usize) {
            cursor.clone_into(older);
        }
    }

    fn find(&self, rng: &mut Rng) -> Option<String> {
        let lost = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        (!lost.is_empty()).then(|| rng.pick(&lost).clone())
    }
}

/// A cursor that was not given out, or to somebody else, or of a contract to come, or none at all.
pub(crate) fn stray(cursor: &str, lost: &Lost, rng: &mut Rng) -> String {
    let ahead = || {
        let (epoch, seq) = cursor.rsplit_once('.')?;
        let seq = (seq.get(1..)?.parse::<u64>().ok()? + 1_000).to_string();
        Some(format!("{epoch}.{}{seq}", char::from(b'`' + seq.len() as u8)))
    };
    match rng.below(6) {
        0 => "3.of-another-contract".to_owned(),
        1 => "garbage".to_owned(),
        2 | 3 => ahead().unwrap_or_default(),
        _ => lost.find(rng).unwrap_or_else(|| "oldest".to_owned()),
    }
}

/// What a user keeps between connections.
#[derive(Clone, Debug)]
pub(crate) struct Place {
    pub(crate) cursor: String,
    /// The cursor in the URL of its page, which is fixed while the page is there.
    pub(crate) url: String,
    pub(crate) topics: Vec<String>,
    pub(crate) later_topic: Option<String>,
}

impl Place {
    /// The page is loaded: with a URL that names where the user is, or has no cursor, or now and then a wrong one.
    fn load(&mut self, rng: &mut Rng, unruly: bool) {
        let here = std::mem::take(&mut self.cursor);
        self.url = match rng.below(10) {
            0..3 if unruly => "garbage".to_owned(),
            3 if unruly => "oldest".to_owned(),
            _ if here.is_empty() => std::mem::take(&mut self.url),
            _ => here,
        };
    }
}

/// Where a user's connections come from.
pub trait Dial: Send + Sync {
    /// A byte stream.
    type Io: AsyncRead + AsyncWrite + Unpin + Send + 'static;

    /// Opens one.
    fn dial(&self, host: String, port: u16) -> impl Future<Output = io::Result<Self::Io>> + Send;
}

impl<F, Fut, I> Dial for F
where
    F: Fn(String, u16) -> Fut + Send + Sync,
    Fut: Future<Output = io::Result<I>> + Send,
    I: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    type Io = I;

    fn dial(&self, host: String, port: u16) -> impl Future<Output = io::Result<I>> + Send {
        self(host, port)
    }
}

/// Reads until `until` (since the start), connecting again whenever the connection ends.
///
/// # Errors
///
/// When a frame does not have the form it must have.
pub async fn run(
    mut plan: Plan,
    dial: impl Dial,
    recorder: Recorder,
    clock: fn() -> u64,
    mut rng: Rng,
    until: Duration,
) -> anyhow::Result<()> {
    let started = Instant::now();
    let (topics, later_topic) = (plan.topics.clone(), plan.later_topic.clone());
    let mut place = Place { cursor: String::new(), url: String::new(), topics, later_topic };
    let mut page = Rng::new(rng.clone().draw(), "page");
    let mut last = None;
    while started.elapsed() < until {
        let habits = &plan.habits;
        if started.elapsed() < plan.cuts_until && rng.percent(habits.strays_percent) {
            place.cursor = stray(&place.cursor, &habits.lost, &mut rng);
        }
        if plan.habits.page.has_url && page.percent(LOADED_PERCENT) {
            place.load(&mut page, started.elapsed() < plan.cuts_until);
        }
        let log = StreamLog::new(&recorder, clock);
        let cut_at = cut_at(&plan, started, &mut rng).min(started + until);
        let (host, port) = next_gateway(&plan, &mut last, &mut rng);
        log.record(What::Open(open(&plan, &place, &log, &host)));
        let busy_until = started + plan.cuts_until;
        let connection =
            Connection { plan: &plan, log: &log, rng: &mut rng, busy_until, taken: Taken::now() };
        let code = match timeout_at(cut_at, connect_and_read(connection, &dial, host, port, &mut place)).await
        {
            Ok(ended) => ended?,
            Err(_) => "cut".into(),
        };
        if is_refused_cursor(&code) {
            (place.cursor, place.url) = (String::new(), String::new());
        } else if plan.habits.page.has_url && code.starts_with("http ") {
            // An `EventSource` that is refused is over: the next one has nothing but its URL.
            place.cursor.clear();
        } else if habits.strays_percent > 0 && frames::cursor(&place.cursor) != Cursor::Empty {
            habits.lost.leave(&place.cursor, &mut rng);
        }
        if is_not_granted(&code) {
            place.topics.retain(|topic| plan.habits.may_ask_for(topic));
        } else if unruly_asks(&plan, busy_until, &mut rng) {
            place.topics.push(FORBIDDEN.to_owned());
        }
        if is_signed_out(&code) && plan.habits.token_life.is_some() && gives_in(&plan, busy_until) {
            sign_in_anew(&mut plan.habits.session);
        }
        log.record(What::Close(Close { stream: log.stream, code }));
        let most = if plan.habits.eager { AT_ONCE } else { Duration::from_secs(1) };
        sleep(rng.between(Duration::ZERO, most)).await;
        if plan.away_percent > 0 && Instant::now() < busy_until && rng.percent(plan.away_percent) {
            sleep(rng.between(plan.away.0, plan.away.1)).await;
        }
    }
    recorder.record(clock(), What::Left(Name::from(plan.reader)));
    Ok(())
}

fn open(plan: &Plan, place: &Place, log: &StreamLog, gateway: &str) -> Open {
    let own = [Name::from(format!("user:{}", plan.user)), Name::from("all")];
    let session = &plan.habits.session;
    let session = (!session.is_empty()).then(|| Name::from(format!("session:{session}")));
    let topics = place.topics.iter().filter(|topic| plan.habits.may_ask_for(topic));
    let topics = topics.map(|topic| Name::from(format!("topic:{topic}")));
    Open {
        stream: log.stream,
        hop: Hop::User,
        reader: plan.reader.as_str().into(),
        recipients: own.into_iter().chain(session).chain(topics).collect(),
        presented: match plan.transport {
            Transport::Sse if place.cursor.is_empty() => frames::cursor(&place.url),
            Transport::Sse => frames::cursor(&place.cursor).by_itself(),
            Transport::WsJson | Transport::WsProto => frames::cursor(&place.cursor),
        },
        standing: false,
        collapses: false,
        at: Some(gateway.into()),
        continues: false,
        steady: plan.steady.is_some(),
    }
}

/// Where it connects to next, after the gateway that it was at last.
fn next_gateway(plan: &Plan, last: &mut Option<String>, rng: &mut Rng) -> (String, u16) {
    let drawn = rng.pick(&plan.gateways);
    let elsewhere = |(host, _): &&(String, u16)| Some(host) != last.as_ref();
    let other = plan.gateways.iter().find(elsewhere).filter(|_| plan.roams && !elsewhere(&drawn));
    let next = other.unwrap_or(drawn).clone();
    *last = Some(next.0.clone());
    next
}

/// Whether it takes the end of its session for what it is.
fn gives_in(plan: &Plan, busy_until: Instant) -> bool {
    let stubborn = plan.habits.stubborn.as_ref().filter(|_| Instant::now() < busy_until);
    stubborn.is_none_or(|(_, stubbornness)| stubbornness.told())
}

/// Whoever signs in anew has another session: "s", "s-again", "s-again2", …, for an id has a length that it may have.
fn sign_in_anew(session: &mut String) {
    if session.is_empty() {
        return;
    }
    *session = match session.rsplit_once("-again") {
        None => format!("{session}-again"),
        Some((name, times)) => format!("{name}-again{}", times.parse().unwrap_or(1_u32) + 1),
    };
}

/// The close code of a WebSocket, or the status of a response, that says so.
fn is_refused_cursor(code: &str) -> bool {
    matches!(code, "4400" | "http 400")
}

/// The close code of a WebSocket, or the status of a response, that says so.
fn is_not_granted(code: &str) -> bool {
    matches!(code, "4403" | "http 403")
}

/// Whether it asks for what its token does not grant, next time.
fn unruly_asks(plan: &Plan, busy_until: Instant, rng: &mut Rng) -> bool {
    plan.habits.grants.is_some() && Instant::now() < busy_until && rng.percent(15)
}

impl Habits {
    fn may_ask_for(&self, topic: &str) -> bool {
        let admits = |pattern: &String| match pattern.strip_suffix('*') {
            Some(beginning) => topic.starts_with(beginning),
            None => topic == pattern,
        };
        self.grants.as_ref().is_none_or(|grants| grants.iter().any(admits))
    }
}

/// The close code of a WebSocket, or the status of a response, that asks for a new token.
fn is_signed_out(code: &str) -> bool {
    matches!(code, "4401" | "http 401")
}

fn cut_at(plan: &Plan, started: Instant, rng: &mut Rng) -> Instant {
    let cut = Instant::now() + rng.between(plan.cut_after.0, plan.cut_after.1);
    let happens = rng.percent(plan.cut_percent);
    if happens && cut < started + plan.cuts_until { cut } else { started + Duration::from_secs(86_400) }
}

/// What the transports need of a user while it is connected.
pub(crate) struct Connection<'a> {
    pub(crate) plan: &'a Plan,
    pub(crate) log: &'a StreamLog,
    rng: &'a mut Rng,
    busy_until: Instant,
    /// When bytes of it were taken last.
    pub(crate) taken: Taken,
}

impl Connection<'_> {
    /// Waits for something to arrive, unless nothing does for too long.
    pub(crate) async fn within_silence<T>(&self, work: impl Future<Output = T>) -> Result<T, Name> {
        tokio::pin!(work);
        let mut until = Instant::now() + self.plan.silence;
        loop {
            match timeout_at(until, &mut work).await {
                Ok(done) => return Ok(done),
                Err(_) if self.quiet_until() <= until => return Err("silence".into()),
                Err(_) => until = self.quiet_until(),
            }
        }
    }

    /// When nothing came for too long. Whoever takes a large frame byte by byte hears something all the time.
    pub(crate) fn quiet_until(&self) -> Instant {
        self.taken.last() + self.plan.silence
    }

    /// Whether it may still do as it likes.
    pub(crate) fn is_unruly(&self) -> bool {
        Instant::now() < self.busy_until
    }

    /// Whether a fickle user changes its mind now.
    pub(crate) fn is_fickle(&mut self) -> bool {
        let percent = self.plan.habits.fickle_percent;
        percent > 0 && self.is_unruly() && self.rng.percent(percent)
    }

    /// One of these topics.
    pub(crate) fn pick(&mut self, topics: &[String]) -> Option<String> {
        (!topics.is_empty()).then(|| self.rng.pick(topics).clone())
    }

    /// A token of its own, if it needs one, and when to refresh it.
    pub(crate) fn token(&self) -> anyhow::Result<Option<(String, Instant)>> {
        let Habits { session, token_life, stubborn, grants, .. } = &self.plan.habits;
        let Some(life) = *token_life else { return Ok(None) };
        let stubborn = stubborn.as_ref().filter(|(how, _)| *how == token::Stubborn::Token);
        let life = if stubborn.is_some() { life + LONGER_KEPT } else { life };
        let kept = stubborn.and_then(|(_, stubbornness)| stubbornness.token()).filter(|(_, issued_us)| {
            let ends_us = issued_us + (life / 2).as_micros() as u64;
            self.is_unruly() && now_us() < ends_us
        });
        let (token, issued_us) = match kept {
            Some(kept) => kept,
            None => (
                token::issue_for(&self.plan.user, session, grants.as_deref(), now_unix_ms(), life)?,
                now_us(),
            ),
        };
        if let Some((_, stubbornness)) = stubborn {
            stubbornness.keep(&token, issued_us);
        }
        let until_us = Some(issued_us + life.as_micros() as u64);
        self.log.record(What::Token(Token { stream: self.log.stream, issued_us, until_us }));
        Ok(Some((token, Instant::now() + life / 2)))
    }

    /// Now and then a user is busy with something else.
    pub(crate) async fn dawdle(&mut self) {
        let Habits { long_pauses, drags, .. } = self.plan.habits;
        if drags > Duration::ZERO && self.is_unruly() {
            let pause = self.rng.between(Duration::ZERO, drags);
            self.log.pause(pause, None);
            sleep(pause).await;
        }
        if long_pauses && self.is_unruly() && self.rng.below(LONG_PAUSE_ONE_IN) == 0 {
            let pause = self.rng.between(LONG_PAUSE.0, LONG_PAUSE.1);
            self.log.pause(pause, None);
            sleep(pause).await;
        }
        if self.is_unruly() && self.rng.percent(self.plan.pause_percent) {
            let pause = self.rng.between(Duration::from_millis(10), Duration::from_secs(2));
            self.log.pause(pause, None);
            sleep(pause).await;
        }
    }
}

async fn connect_and_read(
    connection: Connection<'_>,
    dial: &impl Dial,
    host: String,
    port: u16,
    place: &mut Place,
) -> anyhow::Result<Name> {
    let io = match connection.within_silence(dial.dial(host, port)).await {
        Ok(Ok(io)) => Steady::new(io, connection.plan.steady.clone(), connection.taken.clone()),
        Ok(Err(error)) => return Ok(format!("unreachable: {:?}", error.kind()).into()),
        Err(silence) => return Ok(silence),
    };
    match connection.plan.transport {
        Transport::Sse => sse::read(connection, io, place).await,
        Transport::WsJson => ws::read(connection, io, place, ws::Form::Json).await,
        Transport::WsProto => ws::read(connection, io, place, ws::Form::Proto).await,
    }
}
