//! Control frames and standing records as JSON.
//!
//! Members with no value are left out, as in proto3's JSON mapping; what every reader looks for (reasons, outcomes,
//! flags, counts, positions) is always there.

use serde::{Serialize, Serializer};

use crate::{
    time,
    v1::{self, push_event::Kind},
};

pub(super) struct ControlJson<'a>(pub(super) &'a Kind);

/// The member that holds a frame of this kind.
pub(super) const fn name(kind: &Kind) -> &'static str {
    match kind {
        Kind::Event(_) => "event",
        Kind::SessionInvalidation(_) => "sessionInvalidation",
        Kind::Membership(_) => "membership",
        Kind::Welcome(_) => "welcome",
        Kind::Progress(_) => "progress",
        Kind::Gap(_) => "gap",
        Kind::CaughtUp(_) => "caughtUp",
        Kind::FellBehind(_) => "fellBehind",
        Kind::Goodbye(_) => "goodbye",
        Kind::Standing(_) => "standing",
        Kind::Subscribed(_) => "subscribed",
    }
}

impl Serialize for ControlJson<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self.0 {
            // Events have a form of their own, which needs a view.
            Kind::Event(_) | Kind::CaughtUp(_) => Nothing {}.serialize(serializer),
            Kind::Progress(progress) => ProgressJson { stale: progress.stale }.serialize(serializer),
            Kind::SessionInvalidation(record) => InvalidationJson::of(record).serialize(serializer),
            Kind::Membership(record) => MembershipJson::of(record).serialize(serializer),
            Kind::Welcome(welcome) => WelcomeJson::of(welcome).serialize(serializer),
            Kind::Gap(gap) => GapJson::of(gap).serialize(serializer),
            Kind::FellBehind(behind) => FellBehindJson {
                events: behind.events.to_string(),
                lag: behind.lag.as_ref().and_then(time::duration_text),
            }
            .serialize(serializer),
            Kind::Goodbye(goodbye) => GoodbyeJson {
                reason: label(v1::GoodbyeReason::try_from, v1::GoodbyeReason::as_str_name, goodbye.reason),
                retry_after: goodbye.retry_after.as_ref().and_then(time::duration_text),
                reconnect: goodbye.reconnect,
            }
            .serialize(serializer),
            Kind::Standing(standing) => StandingJson {
                invalidations: standing.invalidations.iter().map(InvalidationJson::of).collect(),
                memberships: standing.memberships.iter().map(MembershipJson::of).collect(),
                more: standing.more,
            }
            .serialize(serializer),
            Kind::Subscribed(subscribed) => {
                SubscribedJson { topics: &subscribed.topics }.serialize(serializer)
            }
        }
    }
}

#[derive(Serialize)]
struct Nothing {}

/// Left out while it is not so: users know a progress as an empty object.
#[derive(Serialize)]
struct ProgressJson {
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    stale: bool,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct WelcomeJson<'a> {
    outcome: Label,
    #[serde(skip_serializing_if = "str::is_empty")]
    epoch: &'a str,
    #[serde(skip_serializing_if = "str::is_empty")]
    head: &'a str,
    #[serde(skip_serializing_if = "str::is_empty")]
    oldest: &'a str,
    generation: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    heartbeat_interval: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    limits: Option<LimitsJson>,
    #[serde(skip_serializing_if = "str::is_empty")]
    connection_id: &'a str,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct LimitsJson {
    max_event_bytes: u32,
    max_frame_bytes: u32,
    window_events: String,
    window_bytes: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    window_age: Option<String>,
}

impl<'a> WelcomeJson<'a> {
    fn of(welcome: &'a v1::Welcome) -> Self {
        Self {
            outcome: label(v1::Outcome::try_from, v1::Outcome::as_str_name, welcome.outcome),
            epoch: &welcome.epoch,
            head: &welcome.head,
            oldest: &welcome.oldest,
            generation: welcome.generation.to_string(),
            heartbeat_interval: welcome.heartbeat_interval.as_ref().and_then(time::duration_text),
            limits: welcome.limits.as_ref().map(|limits| LimitsJson {
                max_event_bytes: limits.max_event_bytes,
                max_frame_bytes: limits.max_frame_bytes,
                window_events: limits.window_events.to_string(),
                window_bytes: limits.window_bytes.to_string(),
                window_age: limits.window_age.as_ref().and_then(time::duration_text),
            }),
            connection_id: &welcome.connection_id,
        }
    }
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct GapJson<'a> {
    reason: Label,
    from: &'a str,
    to: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    count: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    repair_after: Option<String>,
}

impl<'a> GapJson<'a> {
    fn of(gap: &'a v1::Gap) -> Self {
        Self {
            reason: label(v1::GapReason::try_from, v1::GapReason::as_str_name, gap.reason),
            from: &gap.from,
            to: &gap.to,
            count: gap.count.map(|count| count.to_string()),
            repair_after: gap.repair_after.as_ref().and_then(time::duration_text),
        }
    }
}

#[derive(Serialize)]
struct FellBehindJson {
    events: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    lag: Option<String>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct GoodbyeJson {
    reason: Label,
    #[serde(skip_serializing_if = "Option::is_none")]
    retry_after: Option<String>,
    reconnect: bool,
}

#[derive(Serialize)]
struct StandingJson<'a> {
    #[serde(skip_serializing_if = "Vec::is_empty")]
    invalidations: Vec<InvalidationJson<'a>>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    memberships: Vec<MembershipJson<'a>>,
    more: bool,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct InvalidationJson<'a> {
    recipient: &'a str,
    #[serde(skip_serializing_if = "str::is_empty")]
    reason: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    issued_before: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    expires_at: Option<String>,
}

impl<'a> InvalidationJson<'a> {
    fn of(record: &'a v1::SessionInvalidation) -> Self {
        Self {
            recipient: &record.recipient,
            reason: &record.reason,
            issued_before: record.issued_before.as_ref().and_then(time::timestamp_text),
            expires_at: record.expires_at.as_ref().and_then(time::timestamp_text),
        }
    }
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct MembershipJson<'a> {
    recipient: &'a str,
    topic: &'a str,
    member: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    expires_at: Option<String>,
}

impl<'a> MembershipJson<'a> {
    fn of(record: &'a v1::Membership) -> Self {
        Self {
            recipient: &record.recipient,
            topic: &record.topic,
            member: record.member,
            expires_at: record.expires_at.as_ref().and_then(time::timestamp_text),
        }
    }
}

#[derive(Serialize)]
struct SubscribedJson<'a> {
    topics: &'a [String],
}

/// An enum value: its name without the prefix, or the number of one that a newer contract has.
#[derive(Serialize)]
#[serde(untagged)]
enum Label {
    Name(&'static str),
    Number(i32),
}

fn label<E, X>(known: impl Fn(i32) -> Result<E, X>, name: impl Fn(&E) -> &'static str, number: i32) -> Label {
    match known(number) {
        // The value 0 is the prefix followed by UNSPECIFIED, so it tells how long the prefix is.
        Ok(value) => Label::Name(match known(0) {
            Ok(zero) => &name(&value)[name(&zero).len() - "UNSPECIFIED".len()..],
            Err(_) => name(&value),
        }),
        Err(_) => Label::Number(number),
    }
}
