//! A backend that says standing records without our library, each request under an id of its own: many at the beginning, so that
//! what holds fills several frames, and then who belongs to topics with a common beginning, and from when tokens are void. A
//! request is sent again as it was, with its id, when newer records about the same have come: as after an answer that was lost.
//! It must be a repeat then, and change nothing.

use std::time::Duration;

use galaxy_push_proto::v1::publisher_client::PublisherClient;
use galaxy_push_proto::{Failure, v1};
use galaxy_push_testkit::Recorder;
use galaxy_push_testkit::history::{CallId, Name, PubAck, PubCall, What};
use tokio::time::{Instant, sleep, timeout};
use tonic::transport::Channel;
use tonic::{Response, Status};

use crate::frames::{invalidation_hash, membership_hash};
use crate::met::Met;
use crate::plain::{WINDOW_BYTES, channel};
use crate::publisher::position;
use crate::rng::{Counter, Rng, now_unix_ms, now_us};

/// An answer that has not come within this time does not come.
const PATIENCE: Duration = Duration::from_secs(7);

/// As many memberships are said in one request.
pub const TOGETHER: u64 = 60;

/// A request is sent again while it is surely still known.
const KNOWN_FOR: Duration = Duration::from_secs(100);

/// How it behaves.
#[derive(Clone, Debug)]
pub struct Plan {
    /// The hub.
    pub hub: &'static str,
    /// How many memberships of strangers it says at the beginning.
    pub crowd: u64,
    /// Whether it says more after that.
    pub goes_on: bool,
    /// Whose memberships change, and whose sessions end.
    pub members: Vec<String>,
    /// The topics of the memberships.
    pub topics: &'static [&'static str],
    /// Whether it says from when invalidations count.
    pub explicit: bool,
    /// The longest pause between two requests.
    pub pause: Duration,
    /// It ends here.
    pub until: Duration,
}

/// A request as it is sent, again and again.
#[derive(Clone, Debug)]
enum Request {
    Invalidate(v1::InvalidateRequest),
    Set(v1::SetMembershipRequest),
}

struct Registrar {
    plan: Plan,
    recorder: Recorder,
    numbers: Counter,
    rng: Rng,
    met: Met,
    client: Option<PublisherClient<Channel>>,
}

/// Says records until the plan ends.
pub async fn run(plan: Plan, recorder: Recorder, numbers: Counter, rng: Rng, met: Met) {
    let started = Instant::now();
    let mut registrar = Registrar { plan, recorder, numbers, rng, met, client: None };
    let mut left = registrar.plan.crowd;
    while left > 0 && started.elapsed() < registrar.plan.until {
        let some = left.min(TOGETHER);
        let request = registrar.strangers(left - some, some);
        registrar.ask(&request).await;
        left -= some;
    }
    let mut said: Option<(Instant, Request)> = None;
    while registrar.plan.goes_on && started.elapsed() < registrar.plan.until {
        sleep(registrar.rng.between(Duration::ZERO, registrar.plan.pause)).await;
        match said.take_if(|_| registrar.rng.percent(40)) {
            Some((at, request)) if at.elapsed() < KNOWN_FOR => {
                // Something newer about the same, and then what was said before once more.
                if let Some(newer) = registrar.contrary(&request) {
                    registrar.ask(&newer).await;
                }
                registrar.met.meets("SaidAgainAfterNewer");
                registrar.ask(&request).await;
            }
            _ => {
                let request = registrar.draw();
                registrar.ask(&request).await;
                said = Some((Instant::now(), request));
            }
        }
    }
}

impl Registrar {
    /// Memberships of those who are not there.
    fn strangers(&mut self, from: u64, count: u64) -> Request {
        let members = (from..from + count).map(|number| {
            let recipient = format!("user:stranger-{number}");
            self.membership(recipient, format!("crowd/{}", number % 7), true, 86_400)
        });
        let memberships = members.collect();
        self.set(memberships)
    }

    fn membership(&self, recipient: String, topic: String, member: bool, life_secs: u64) -> v1::Membership {
        v1::Membership { recipient, topic, member, expires_at: self.moment(life_secs) }
    }

    fn set(&self, memberships: Vec<v1::Membership>) -> Request {
        let id = format!("r{}", self.numbers.next());
        let source = "registrar".to_owned();
        Request::Set(v1::SetMembershipRequest { memberships, id, source, ..Default::default() })
    }

    /// The nanoseconds make every record another one.
    fn moment(&self, in_secs: u64) -> Option<prost_types::Timestamp> {
        let nanos = i32::try_from(self.numbers.next() % 1_000_000_000).unwrap_or_default();
        Some(prost_types::Timestamp { seconds: (now_unix_ms() / 1_000 + in_secs) as i64, nanos })
    }

    fn draw(&mut self) -> Request {
        if self.plan.explicit && self.rng.percent(30) {
            return self.invalidation();
        }
        let member = self.rng.pick(&self.plan.members).clone();
        let topic = (*self.rng.pick(self.plan.topics)).to_owned();
        if topic.ends_with('*') {
            self.met.meets("WildcardMembership");
        }
        let is_member = self.rng.percent(70);
        let record = self.membership(member, topic, is_member, 86_400);
        self.set(vec![record])
    }

    /// It voids what was issued before a moment that is not the one of the record: mostly earlier, and now and then a little later.
    fn invalidation(&mut self) -> Request {
        let member = self.rng.pick(&self.plan.members).clone();
        let ms = now_unix_ms();
        let before_ms =
            if self.rng.percent(25) { ms + self.rng.below(6_000) } else { ms - self.rng.below(20_000) };
        // No whole second, so that it is told from what a hub fills in.
        let nanos = (before_ms % 1_000 * 1_000_000 + 1_000).try_into().unwrap_or(1_000);
        let seconds = (before_ms / 1_000) as i64;
        self.met.meets("ExplicitIssuedBefore");
        let (number, life_secs) = (self.numbers.next(), 10 + self.rng.below(30));
        let record = v1::SessionInvalidation {
            recipient: member,
            reason: format!("said from when, {number}"),
            issued_before: Some(prost_types::Timestamp { seconds, nanos }),
            expires_at: self.moment(life_secs),
        };
        let (invalidation, id) = (Some(record), format!("r{number}"));
        let source = "registrar".to_owned();
        Request::Invalidate(v1::InvalidateRequest { invalidation, id, source, ..Default::default() })
    }

    /// What says the contrary of a membership.
    fn contrary(&self, request: &Request) -> Option<Request> {
        let Request::Set(request) = request else { return None };
        let newer = request.memberships.iter().map(|record| {
            self.membership(record.recipient.clone(), record.topic.clone(), !record.member, 86_400)
        });
        let newer = newer.collect();
        Some(self.set(newer))
    }

    async fn ask(&mut self, request: &Request) {
        if self.client.is_none() {
            self.client = channel(self.plan.hub, WINDOW_BYTES).await.ok().map(PublisherClient::new);
        }
        let Some(client) = &mut self.client else { return sleep(Duration::from_millis(300)).await };
        let calls = record_calls(&self.recorder, request);
        let answer = match request {
            Request::Invalidate(request) => timeout(PATIENCE, client.invalidate(request.clone())).await,
            Request::Set(request) => timeout(PATIENCE, client.set_membership(request.clone())).await,
        };
        if matches!(&answer, Ok(Ok(answer)) if answer.get_ref().duplicate) {
            self.met.meets("RecordSaidTwice");
        }
        if !record_answer(&self.recorder, &calls, answer.ok()) {
            self.client = None;
        }
    }
}

fn record_calls(recorder: &Recorder, request: &Request) -> Vec<CallId> {
    let hashes: Vec<_> = match request {
        Request::Invalidate(request) => request.invalidation.iter().map(invalidation_hash).collect(),
        Request::Set(request) => request.memberships.iter().map(membership_hash).collect(),
    };
    let batch = Some(recorder.next_call());
    let calls = hashes.into_iter().map(|hash| {
        let (call, id) = (recorder.next_call(), Name::from(hash.to_string()));
        let asked = PubCall { call, source: "".into(), id, to: Vec::new(), hash, batch, ephemeral: false };
        recorder.record(now_us(), What::PubCall(asked));
        call
    });
    calls.collect()
}

/// The answer names the position of the last record. Whether the connection is still good.
fn record_answer(
    recorder: &Recorder,
    calls: &[CallId],
    answer: Option<Result<Response<v1::RecordResponse>, Status>>,
) -> bool {
    let is_refused = matches!(&answer, Some(Err(status)) if Failure::of(status).reason.is_some());
    let acked = match answer {
        Some(Ok(answer)) => Some(answer.into_inner()),
        _ => None,
    };
    for (number, call) in calls.iter().enumerate() {
        let what = match &acked {
            Some(answer) if number + 1 == calls.len() => {
                let (call, position) = (*call, position(&answer.cursor));
                What::PubAck(PubAck { call, position, duplicate: answer.duplicate })
            }
            None if is_refused => What::PubNack(*call),
            _ => What::PubUnknown(*call),
        };
        recorder.record(now_us(), what);
    }
    acked.is_some() || is_refused
}
