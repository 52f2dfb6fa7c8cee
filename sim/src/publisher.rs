//! A backend: publishes batches, now and then the same event twice, and writes down what it was answered.

use std::time::Duration;

use galaxy_push_client::{Failure, Published, Publisher};
use galaxy_push_proto::v1;
use galaxy_push_testkit::Recorder;
use galaxy_push_testkit::history::{CallId, Hash, Name, Position, PubAck, PubCall, What};
use tokio::time::{Instant, sleep};

use crate::frames::{self, event_hash, invalidation_hash, membership_hash};
use crate::net;
use crate::rng::{Counter, Rng, now_unix_ms, now_us};

/// No event is larger than this, with all that is stored beside its data.
pub const LARGE_BYTES: u64 = 24 << 10;

/// How a backend behaves.
#[derive(Clone, Debug)]
pub struct Plan {
    /// Its `source`.
    pub source: String,
    /// Whom it publishes for.
    pub recipients: Vec<String>,
    /// Whose memberships and sessions change now and then.
    pub members: Vec<String>,
    /// Who gets a large event now and then.
    pub large_to: Option<String>,
    /// How often one of these changes, in percent of batches.
    pub change_percent: u64,
    /// The topics of the memberships; without any only sessions end.
    pub topics: &'static [&'static str],
    /// Whether sessions are left alone: which of them a record ends is judged by wall clocks, and these are wrong.
    pub spares_sessions: bool,
    /// Whether it is often a user's session that a record ends, and not all of them.
    pub ends_sessions: bool,
    /// The longest pause between two batches.
    pub pause: Duration,
    /// It ends here.
    pub until: Duration,
}

/// Publishes until the plan ends.
///
/// # Errors
///
/// When the client cannot be built.
pub async fn run(
    plan: Plan,
    hubs: Vec<&'static str>,
    recorder: Recorder,
    numbers: Counter,
    mut rng: Rng,
) -> anyhow::Result<()> {
    let started = Instant::now();
    let mut jitter = Rng::new(rng.draw(), "jitter");
    let mut publisher = Publisher::builder()
        .hub(&net::urls(&hubs))
        .connector(net::connect)
        .random(move || jitter.draw())
        .give_up_after(Duration::from_secs(4))
        .build()?;
    let mut earlier: Vec<v1::Event> = Vec::new();
    while started.elapsed() < plan.until {
        sleep(rng.between(Duration::ZERO, plan.pause)).await;
        if rng.percent(plan.change_percent) {
            let call = draw_change(&plan, &numbers, &mut rng);
            change(&mut publisher, call, &recorder).await;
        }
        let mut events: Vec<_> = (0..1 + rng.below(4)).map(|_| draw(&plan, &numbers, &mut rng)).collect();
        if !earlier.is_empty() && rng.percent(10) {
            events.push(rng.pick(&earlier).clone());
        }
        if !earlier.is_empty() && rng.percent(3) {
            // An id that was used for something else: refused, never taken for the one before.
            let (data, data_content_type) =
                (br#"{"reused":true}"#.to_vec().into(), "application/json".to_owned());
            events.push(v1::Event { data, data_content_type, ..rng.pick(&earlier).clone() });
        }
        if rng.percent(3) {
            let to = vec!["nobody".to_owned()];
            events.push(v1::Event { to, ..draw(&plan, &numbers, &mut rng) });
        }
        if let Some(to) = &plan.large_to
            && rng.percent(15)
        {
            let data = format!("\"{}\"", "z".repeat((12_000 + rng.below(8_000)) as usize));
            let to = vec![to.clone()];
            events.push(v1::Event {
                to,
                data: data.into(),
                data_content_type: "application/json".into(),
                ..draw(&plan, &numbers, &mut rng)
            });
        }
        earlier = events.clone();
        let calls = record_calls(&recorder, &events, now_us());
        let answer = publisher.publish(events).await;
        record_answer(&recorder, &calls, &answer, now_us());
    }
    Ok(())
}

/// Publishes 300 to 2,000 small events for one topic at once, again and again until `until`.
///
/// # Errors
///
/// When the client cannot be built.
pub async fn burst(
    hubs: &'static [&'static str],
    recorder: Recorder,
    numbers: Counter,
    mut rng: Rng,
    until: Duration,
) -> anyhow::Result<()> {
    let (started, mut jitter) = (Instant::now(), Rng::new(rng.draw(), "jitter"));
    let mut publisher = Publisher::builder()
        .hub(&net::urls(hubs))
        .connector(net::connect)
        .random(move || jitter.draw())
        .give_up_after(Duration::from_secs(4))
        .build()?;
    loop {
        sleep(rng.between(BURST_EVERY.0, BURST_EVERY.1)).await;
        if started.elapsed() >= until {
            return Ok(());
        }
        let mut left = 300 + rng.below(1_701);
        while left > 0 {
            let some = left.min(BATCH_MAX);
            left -= some;
            let events = (0..some).map(|_| {
                let number = numbers.next();
                v1::Event {
                    to: vec!["topic:news".to_owned()],
                    id: format!("e{number}"),
                    source: "burst".to_owned(),
                    r#type: "sim.burst".to_owned(),
                    data: format!("{{\"n\":{number}}}").into(),
                    data_content_type: "application/json".into(),
                    ..v1::Event::default()
                }
            });
            let events: Vec<_> = events.collect();
            let calls = record_calls(&recorder, &events, now_us());
            let answer = publisher.publish(events).await;
            record_answer(&recorder, &calls, &answer, now_us());
        }
    }
}

/// How long it is from one burst to the next.
const BURST_EVERY: (Duration, Duration) = (Duration::from_secs(4), Duration::from_secs(14));

/// The most events that a request may have.
const BATCH_MAX: u64 = 1_000;

/// A change of a standing record.
enum Change {
    Invalidation(v1::SessionInvalidation),
    Membership(v1::Membership),
}

/// The number makes every record another one, by the nanoseconds of its end.
fn draw_change(plan: &Plan, numbers: &Counter, rng: &mut Rng) -> Change {
    let number = numbers.next();
    let nanos = i32::try_from(number % 1_000_000_000).unwrap_or_default();
    let seconds = |in_secs: u64| (now_unix_ms() / 1_000 + in_secs) as i64;
    let at = |in_secs: u64| Some(prost_types::Timestamp { seconds: seconds(in_secs), nanos });
    if plan.topics.is_empty() || rng.percent(30) {
        return Change::Invalidation(v1::SessionInvalidation {
            recipient: if rng.percent(20) && !plan.spares_sessions {
                let member = rng.pick(&plan.members).clone();
                match member.strip_prefix("user:") {
                    Some(user) if plan.ends_sessions && number.is_multiple_of(2) => {
                        format!("session:s{user}")
                    }
                    _ => member,
                }
            } else {
                format!("session:gone-{number}")
            },
            reason: "signed out".into(),
            issued_before: None,
            expires_at: at(8 + rng.below(40)),
        });
    }
    let soon = rng.percent(20);
    Change::Membership(v1::Membership {
        recipient: rng.pick(&plan.members).clone(),
        topic: (*rng.pick(plan.topics)).to_owned(),
        member: rng.percent(65),
        expires_at: at(if soon { 6 } else { 86_400 }),
    })
}

/// Publishes a change. What was acknowledged must be in the log where the answer says.
async fn change(publisher: &mut Publisher, change: Change, recorder: &Recorder) {
    let hash = match &change {
        Change::Invalidation(record) => invalidation_hash(record),
        Change::Membership(record) => membership_hash(record),
    };
    let call = recorder.next_call();
    let id = Name::from(hash.to_string());
    let asked = PubCall { call, source: "".into(), id, to: Vec::new(), hash, batch: None, ephemeral: false };
    recorder.record(now_us(), What::PubCall(asked));
    let answer = match change {
        Change::Invalidation(record) => publisher.invalidate(record).await.map(|answer| answer.cursor),
        Change::Membership(record) => publisher.set_memberships(vec![record]).await,
    };
    let answer = match answer {
        Ok(cursor) => What::PubAck(PubAck { call, position: position(&cursor), duplicate: false }),
        Err(_) => What::PubUnknown(call),
    };
    recorder.record(now_us(), answer);
}

fn draw(plan: &Plan, numbers: &Counter, rng: &mut Rng) -> v1::Event {
    let number = numbers.next();
    let mut to = vec![rng.pick(&plan.recipients).clone()];
    if rng.percent(15) {
        to.push(rng.pick(&plan.recipients).clone());
    }
    let ttl = rng.percent(5).then(|| prost_types::Duration { seconds: 1 + rng.below(3) as i64, nanos: 0 });
    // Some live long enough that whoever takes them for expired has a wrong clock.
    let ttl = ttl
        .map(|ttl| if number.is_multiple_of(3) { prost_types::Duration { seconds: 15, ..ttl } } else { ttl });
    let (data, data_content_type) = draw_data(number, rng);
    let texts = |percent: u64, rng: &mut Rng, text: &str| {
        if rng.percent(percent) { text.to_owned() } else { String::new() }
    };
    let mut attributes = std::collections::BTreeMap::new();
    if rng.percent(20) {
        attributes.insert("traceparent".to_owned(), format!("00-{number:032x}-{number:016x}-01"));
    }
    v1::Event {
        to,
        id: format!("e{number}"),
        r#type: (*rng.pick(&["sim.event", "sim.other", "\u{fc}bung"])).to_owned(),
        source: plan.source.clone(),
        subject: texts(20, rng, "a \"subject\" of \u{1f30c}"),
        collapse_key: texts(10, rng, "latest"),
        data: data.into(),
        data_content_type: data_content_type.into(),
        ephemeral: ttl.is_none() && rng.percent(4),
        ttl,
        attributes,
        ..v1::Event::default()
    }
}

/// Mostly small; some larger than some readers take, and a few that are no JSON.
fn draw_data(number: u64, rng: &mut Rng) -> (Vec<u8>, &'static str) {
    let padding = match rng.below(100) {
        0 => 4_000 + rng.below(LARGE_BYTES - 5_000),
        1..8 => rng.below(4_000),
        _ => rng.below(200),
    };
    match rng.below(20) {
        0 => ((0..padding).map(|_| rng.below(256) as u8).collect(), "application/octet-stream"),
        // As it is sent, to the last space and digit.
        1 => {
            let text = format!(
                "[ 1.50, {number}00000000000000000000,\t\"\\u00fc\",-0.0e1 ,\"{}\"]",
                "y".repeat(padding as usize)
            );
            (text.into_bytes(), "application/json")
        }
        _ => {
            let padding = "x".repeat(padding as usize);
            (format!(r#"{{"n":{number},"padding":"{padding}"}}"#).into_bytes(), "application/json")
        }
    }
}

/// Writes down that these events are about to be published as one batch.
pub fn record_calls(recorder: &Recorder, events: &[v1::Event], now_us: u64) -> Vec<CallId> {
    let batch = Some(recorder.next_call());
    let calls = events.iter().map(|event| {
        let call = recorder.next_call();
        recorder.record(
            now_us,
            What::PubCall(PubCall {
                call,
                source: event.source.as_str().into(),
                id: event.id.as_str().into(),
                to: event.to.iter().map(|to| Name::from(to.as_str())).collect(),
                hash: hash(event),
                batch,
                ephemeral: event.ephemeral,
            }),
        );
        call
    });
    calls.collect()
}

/// Writes down what was answered.
pub fn record_answer(
    recorder: &Recorder,
    calls: &[CallId],
    answer: &Result<Vec<Published>, Failure>,
    now: u64,
) {
    match answer {
        Ok(published) => {
            for (call, published) in calls.iter().zip(published) {
                let position = position(&published.cursor);
                let ack = PubAck { call: *call, position, duplicate: published.duplicate };
                recorder.record(now, What::PubAck(ack));
            }
        }
        // Such a request is refused by every hub alike, so none of the tries before can have landed.
        Err(Failure::Status(status)) if status.code == i32::from(tonic::Code::InvalidArgument) => {
            calls.iter().for_each(|call| recorder.record(now, What::PubNack(*call)));
        }
        // Another status says that the hub refused, unless a try before it was not answered: then nobody knows.
        Err(_) => calls.iter().for_each(|call| recorder.record(now, What::PubUnknown(*call))),
    }
}

/// The position a cursor text names, if it names one.
#[must_use]
pub fn position(cursor: &str) -> Option<Position> {
    match frames::cursor(cursor) {
        galaxy_push_testkit::history::Cursor::At(position) => Some(position),
        _ => None,
    }
}

/// The fingerprint of an event before it was published.
#[must_use]
pub fn hash(event: &v1::Event) -> Hash {
    event_hash(event)
}
