//! The rules a standing record must keep, on every surface alike.
//!
//! The hub calls these before it appends a record. Each record fits, with every frame around it, into the smallest
//! message a peer may ask for; so no peer ever misses one because of its size.

use std::time::Duration;

use galaxy_push_core::recipient::{InvalidRecipient, Recipient, check_id, check_name};
use prost_types::Timestamp;

use super::{EVENTS_MAX, Invalid};
use crate::{Reason, time, v1};

/// The longest `reason` of an invalidation, in bytes.
pub const INVALIDATION_REASON_BYTES_MAX: usize = 256;

/// How long an invalidation is kept that does not say so, unless the hub is told otherwise: as long as any token lives.
pub const INVALIDATION_LIFE_DEFAULT: Duration = Duration::from_secs(24 * 60 * 60);

/// How far the clocks of a token's issuer, of the hub and of a gateway may differ.
pub const CLOCK_SKEW: Duration = Duration::from_secs(30);

/// Of one user or session so many invalidations are held at most, by hubs and gateways: beyond it two become one that
/// voids what both do, for as long as either.
pub const INVALIDATIONS_PER_HOLDER_MAX: usize = 8;

/// Fills in what an invalidation may leave out: it voids the tokens issued before the present second began, and is kept
/// for `life`. Tokens say when they were issued in whole seconds, so whoever signs in anew within the second of the
/// record has a token that is good. `now_unix_ms` is the wall clock's.
pub fn fill_in_invalidation(record: &mut v1::SessionInvalidation, now_unix_ms: u64, life: Duration) {
    record.issued_before.get_or_insert_with(|| time::from_unix_ms(now_unix_ms / 1_000 * 1_000));
    record.expires_at.get_or_insert_with(|| end_of(life, now_unix_ms));
}

/// Fills in the end of memberships that do not say one, if they have one by default.
pub fn fill_in_memberships(records: &mut [v1::Membership], now_unix_ms: u64, life: Option<Duration>) {
    let Some(life) = life else { return };
    for record in records.iter_mut().filter(|record| record.member) {
        record.expires_at.get_or_insert_with(|| end_of(life, now_unix_ms));
    }
}

fn end_of(life: Duration, now_unix_ms: u64) -> Timestamp {
    /// The contract's times end with the year 9999.
    const LAST_UNIX_MS: u64 = 253_402_300_799_999;
    let life_ms = u64::try_from(life.as_millis()).unwrap_or(u64::MAX);
    time::from_unix_ms(now_unix_ms.saturating_add(life_ms).min(LAST_UNIX_MS))
}

/// Checks an invalidation that was filled in.
///
/// # Errors
///
/// The first rule that is broken, with a field such as `invalidation.recipient`.
pub fn invalidation(record: &v1::SessionInvalidation, now_unix_ms: u64) -> Result<(), Invalid> {
    check_holder(
        &record.recipient,
        "to end many sessions name the user, and to end everybody's change the signing key",
    )
    .and_then(|()| check_reason(&record.reason))
    .and_then(|()| check_end(record.expires_at.as_ref(), now_unix_ms))
    .and_then(|()| check_issued_before(record, now_unix_ms))
    .map_err(|invalid| invalid.inside("invalidation"))
}

/// Checks the memberships of one request.
///
/// # Errors
///
/// The first rule that is broken, with a field such as `memberships[3].topic`; none, or more than [`EVENTS_MAX`].
pub fn memberships(records: &[v1::Membership], now_unix_ms: u64) -> Result<(), Invalid> {
    if records.is_empty() || records.len() > EVENTS_MAX {
        let message = format!("must be 1 to {EVENTS_MAX}, not {}", records.len());
        return Err(Invalid::new("memberships", message));
    }
    for (index, record) in records.iter().enumerate() {
        check_holder(&record.recipient, "publish to `all` what everybody is to receive")
            .and_then(|()| check_topic(&record.topic))
            .and_then(|()| check_end(record.expires_at.as_ref(), now_unix_ms))
            .map_err(|invalid| invalid.inside(&format!("memberships[{index}]")))?;
    }
    Ok(())
}

/// Whoever can hold a session or a membership. What looks like a pattern would be taken by its letters, and mean nobody.
fn check_holder(recipient: &str, many: &str) -> Result<(), Invalid> {
    let message = match Recipient::parse(recipient) {
        Ok(Recipient::User(name) | Recipient::Session(name)) => match check_name(name) {
            Ok(()) => return Ok(()),
            Err(error) => format!("{error}; {many}"),
        },
        Ok(_) | Err(InvalidRecipient::UnknownKind) => "must be user:<id> or session:<id>".to_owned(),
        Err(error) => error.to_string(),
    };
    Err(Invalid::because(Reason::RecipientInvalid, "recipient", message))
}

fn check_reason(reason: &str) -> Result<(), Invalid> {
    if reason.len() > INVALIDATION_REASON_BYTES_MAX {
        return Err(Invalid::new(
            "reason",
            format!(
                "is longer than {INVALIDATION_REASON_BYTES_MAX} bytes: name the cause, users are told it"
            ),
        ));
    }
    if reason.chars().any(char::is_control) {
        return Err(Invalid::new("reason", "must not hold control characters"));
    }
    Ok(())
}

fn check_end(expires_at: Option<&Timestamp>, now_unix_ms: u64) -> Result<(), Invalid> {
    let Some(at) = expires_at else { return Ok(()) };
    check_time("expires_at", at)?;
    if moment(at) <= moment(&time::from_unix_ms(now_unix_ms)) {
        return Err(Invalid::new("expires_at", "must lie in the future"));
    }
    Ok(())
}

fn check_issued_before(record: &v1::SessionInvalidation, now_unix_ms: u64) -> Result<(), Invalid> {
    let Some(before) = &record.issued_before else { return Ok(()) };
    check_time("issued_before", before)?;
    if moment(before) > moment(&end_of(CLOCK_SKEW, now_unix_ms)) {
        let message = format!(
            "lies more than {} s ahead of the hub's clock: a token that is not issued yet cannot be void; to keep \
             somebody out, issue no new ones",
            CLOCK_SKEW.as_secs()
        );
        return Err(Invalid::new("issued_before", message));
    }
    if record.expires_at.as_ref().is_some_and(|end| moment(before) > moment(end)) {
        return Err(Invalid::new("issued_before", "must not lie after expires_at"));
    }
    Ok(())
}

fn check_time(field: &str, at: &Timestamp) -> Result<(), Invalid> {
    if time::is_valid(at) { Ok(()) } else { Err(Invalid::new(field, "must lie in the years 1 to 9999")) }
}

/// A topic name, or a pattern with one trailing `*`.
fn check_topic(topic: &str) -> Result<(), Invalid> {
    let invalid = |message: String| Err(Invalid::new("topic", message));
    let name = topic.strip_suffix('*').unwrap_or(topic);
    if name.contains('*') {
        return invalid("may hold one `*`, at its end".to_owned());
    }
    if name.starts_with("topic:") {
        return invalid("is the name alone: leave `topic:` out".to_owned());
    }
    if topic == "*" {
        return Ok(());
    }
    check_id(name).or_else(|error| {
        invalid(error.to_string().replace("the id after the colon", "the name").replace("the id", "the name"))
    })
}

const fn moment(at: &Timestamp) -> (i64, i32) {
    (at.seconds, at.nanos)
}

#[cfg(test)]
mod tests {
    use prost::Message as _;

    use super::*;

    const NOW_S: i64 = 1_700_000_000;
    const NOW_MS: u64 = NOW_S as u64 * 1_000;

    fn at(seconds: i64) -> Option<Timestamp> {
        Some(Timestamp { seconds, nanos: 0 })
    }

    fn fault(result: Result<(), Invalid>) -> String {
        result.map_or_else(|invalid| format!("{} {invalid}", invalid.reason), |()| "fine".to_owned())
    }

    #[test]
    fn an_invalidation_is_filled_in() {
        let mut record = v1::SessionInvalidation { recipient: "session:s".into(), ..Default::default() };
        fill_in_invalidation(&mut record, NOW_MS + 999, INVALIDATION_LIFE_DEFAULT);
        let end = Some(Timestamp { seconds: NOW_S + 86_400, nanos: 999_000_000 });
        assert_eq!((record.issued_before, record.expires_at), (at(NOW_S), end), "the second begins");
        let said = v1::SessionInvalidation { issued_before: at(5), expires_at: at(6), ..record };
        let mut same = said.clone();
        fill_in_invalidation(&mut same, NOW_MS, INVALIDATION_LIFE_DEFAULT);
        assert_eq!(same, said);
    }

    #[test]
    fn memberships_may_have_an_end_by_default() {
        let joins = v1::Membership { member: true, ..Default::default() };
        let mut records =
            [joins.clone(), v1::Membership { expires_at: at(7), ..joins.clone() }, v1::Membership::default()];
        fill_in_memberships(&mut records, NOW_MS, None);
        assert_eq!(records[0], joins);
        fill_in_memberships(&mut records, NOW_MS, Some(Duration::from_secs(60)));
        assert_eq!(records.map(|record| record.expires_at), [at(NOW_S + 60), at(7), None]);
    }

    #[test]
    fn what_looks_like_a_pattern_is_refused_and_what_means_many_is_said() {
        for (recipient, refused) in [
            ("user:*", true),
            ("session:*", true),
            ("user:4*", true),
            ("user:4*2", false),
            ("user:*a", false),
        ] {
            let record = v1::SessionInvalidation { recipient: recipient.into(), ..Default::default() };
            let said = fault(invalidation(&record, NOW_MS));
            assert_eq!(said.contains("change the signing key"), refused, "{recipient}: {said}");
            let record =
                v1::Membership { recipient: recipient.into(), topic: "t".into(), ..Default::default() };
            let said = fault(memberships(&[record], NOW_MS));
            assert_eq!(said.contains("publish to `all`"), refused, "{recipient}: {said}");
        }
    }

    #[test]
    fn invalidations() {
        let good = v1::SessionInvalidation {
            recipient: "session:s".into(),
            reason: "signed out".into(),
            issued_before: at(NOW_S),
            expires_at: at(NOW_S + 1),
        };
        let check = |record: v1::SessionInvalidation| fault(invalidation(&record, NOW_MS));
        assert_eq!(check(good.clone()), "fine");
        assert_eq!(check(v1::SessionInvalidation { recipient: "user:42".into(), ..good.clone() }), "fine");
        let ahead = at(NOW_S + 30);
        assert_eq!(
            check(v1::SessionInvalidation { issued_before: ahead, expires_at: ahead, ..good.clone() }),
            "fine",
            "as far as an issuer's clock may be ahead"
        );
        for (record, expected) in [
            (
                v1::SessionInvalidation { recipient: "topic:x".into(), ..good.clone() },
                "RECIPIENT_INVALID invalidation.recipient: must be user:<id> or session:<id>",
            ),
            (
                v1::SessionInvalidation { recipient: "all".into(), ..good.clone() },
                "RECIPIENT_INVALID invalidation.recipient: must be user:<id> or session:<id>",
            ),
            (
                v1::SessionInvalidation { recipient: "session:".into(), ..good.clone() },
                "RECIPIENT_INVALID invalidation.recipient: the id after the colon is empty",
            ),
            (
                v1::SessionInvalidation { reason: "a\nb".into(), ..good.clone() },
                "REQUEST_INVALID invalidation.reason: must not hold control characters",
            ),
            (
                v1::SessionInvalidation { reason: "x".repeat(257), ..good.clone() },
                "REQUEST_INVALID invalidation.reason: is longer than 256 bytes: name the cause, users are told it",
            ),
            (
                v1::SessionInvalidation { expires_at: at(NOW_S), ..good.clone() },
                "REQUEST_INVALID invalidation.expires_at: must lie in the future",
            ),
            (
                v1::SessionInvalidation { expires_at: at(i64::MAX), ..good.clone() },
                "REQUEST_INVALID invalidation.expires_at: must lie in the years 1 to 9999",
            ),
            (
                v1::SessionInvalidation { issued_before: at(NOW_S + 2), ..good.clone() },
                "REQUEST_INVALID invalidation.issued_before: must not lie after expires_at",
            ),
            (
                v1::SessionInvalidation {
                    issued_before: at(NOW_S + 31),
                    expires_at: at(NOW_S + 60),
                    ..good.clone()
                },
                "REQUEST_INVALID invalidation.issued_before: lies more than 30 s ahead of the hub's clock: a token that is \
                 not issued yet cannot be void; to keep somebody out, issue no new ones",
            ),
        ] {
            assert_eq!(check(record.clone()), expected, "{record:?}");
        }
    }

    #[test]
    fn memberships_of_one_request() {
        let good = v1::Membership {
            recipient: "user:42".into(),
            topic: "orders/7".into(),
            member: true,
            expires_at: None,
        };
        let check = |topic: &str| {
            let bad = v1::Membership { topic: topic.into(), ..good.clone() };
            fault(memberships(&[good.clone(), bad], NOW_MS))
        };
        for topic in ["orders", "orders/*", "*", "a:b"] {
            assert_eq!(check(topic), "fine", "{topic}");
        }
        for (topic, expected) in [
            ("", "memberships[1].topic: the name is empty"),
            (
                "a b",
                "memberships[1].topic: the name holds a space, a comma, or a control or format character",
            ),
            ("a*b", "memberships[1].topic: may hold one `*`, at its end"),
            ("a**", "memberships[1].topic: may hold one `*`, at its end"),
            ("topic:a", "memberships[1].topic: is the name alone: leave `topic:` out"),
            (&*"x".repeat(256), "memberships[1].topic: the name is longer than 255 bytes"),
        ] {
            assert_eq!(check(topic), format!("REQUEST_INVALID {expected}"), "{topic}");
        }
        let none = fault(memberships(&[], NOW_MS));
        assert_eq!(none, "REQUEST_INVALID memberships: must be 1 to 1000, not 0");
        assert!(fault(memberships(&vec![good.clone(); 1_001], NOW_MS)).contains("not 1001"));
        let past = v1::Membership { expires_at: at(1), ..good.clone() };
        assert_eq!(
            fault(memberships(&[past], NOW_MS)),
            "REQUEST_INVALID memberships[0].expires_at: must lie in the future"
        );
        let nobody = v1::Membership { recipient: "all".into(), ..good };
        assert!(
            fault(memberships(&[nobody], NOW_MS)).starts_with("RECIPIENT_INVALID memberships[0].recipient")
        );
    }

    /// The largest records and what is around them stay below the smallest message a peer may ask for, 1 KiB.
    #[test]
    fn the_largest_record_fits_every_peer() {
        let recipient = format!("session:{}", "x".repeat(255));
        let time = Some(Timestamp { seconds: 253_402_300_799, nanos: 999_000_000 });
        let largest = v1::SessionInvalidation {
            recipient: recipient.clone(),
            reason: "x".repeat(INVALIDATION_REASON_BYTES_MAX),
            issued_before: time,
            expires_at: time,
        };
        let in_9999 = time.map_or(0, |time| time.seconds as u64 * 1_000);
        let other = v1::Membership {
            recipient,
            topic: format!("{}*", "x".repeat(255)),
            member: true,
            expires_at: time,
        };
        assert_eq!(fault(invalidation(&largest, in_9999)), "fine");
        assert_eq!(fault(memberships(std::slice::from_ref(&other), NOW_MS)), "fine");
        let frame = v1::PushEvent {
            cursor: "9".repeat(128),
            kind: Some(v1::push_event::Kind::Standing(v1::Standing {
                invalidations: vec![largest.clone()],
                memberships: vec![],
                more: true,
            })),
            appended_unix_ms: u64::MAX,
        };
        assert!(frame.encoded_len() < 1_024 && other.encoded_len() < largest.encoded_len());
    }
}
