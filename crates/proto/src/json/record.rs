//! Standing records as they are sent in JSON: the members of the contract's messages, alone or inside their request.
//!
//! `{"recipient":"session:s"}` or `{"invalidation":{…}}`; `{"recipient":"user:42","topic":"orders","member":true}` or
//! `{"memberships":[…]}`; beside either form `"id"` and `"source"`, by which the request is recognised when it comes again. Names in lowerCamelCase or as in the proto file, times in RFC 3339. Unknown members are
//! refused: a misspelt `expiresAt` that is ignored would keep a record for ever.

use std::collections::BTreeMap;

use prost_types::Timestamp;
use serde::{Deserialize, de::DeserializeOwned};
use serde_json::value::RawValue;

use super::{streamed, without_bom};
use crate::validate::check_records_count;
use crate::{Invalid, time, v1};

/// Reads an invalidation.
///
/// # Errors
///
/// Not a JSON object of these members, or a time that is none.
pub fn parse_invalidation(json: &[u8]) -> Result<v1::InvalidateRequest, Invalid> {
    let (at, json) = ("invalidation", without_bom(json));
    let (record, id, source) = match whole(json, at)? {
        Some(whole) => (unnamed(at, whole.records.get().as_bytes())?, whole.id, whole.source),
        None => {
            let mut record: InvalidationJson = object(at, json)?;
            let (id, source) = record.take_name();
            (record, id, source)
        }
    };
    let invalidation = v1::SessionInvalidation {
        recipient: record.recipient,
        reason: record.reason.unwrap_or_default(),
        issued_before: timestamp("invalidation.issued_before", record.issued_before)?,
        expires_at: timestamp("invalidation.expires_at", record.expires_at)?,
    };
    Ok(v1::InvalidateRequest {
        invalidation: Some(invalidation),
        id: id.unwrap_or_default(),
        source: source.unwrap_or_default(),
        ..v1::InvalidateRequest::default()
    })
}

/// Reads the memberships of one request.
///
/// # Errors
///
/// Not a JSON object of these members, or a time that is none.
pub fn parse_memberships(json: &[u8]) -> Result<v1::SetMembershipRequest, Invalid> {
    let json = without_bom(json);
    let (memberships, id, source) = match whole(json, "memberships")? {
        Some(whole) => {
            let mut records = Vec::new();
            let read = streamed::items(whole.records.get().as_bytes(), |index, each| {
                check_records_count(index + 1)?;
                let at = format!("memberships[{index}]");
                records.push(membership(&at, unnamed(&at, each.get().as_bytes())?)?);
                Ok(())
            });
            read.map_err(|ended| {
                ended.invalid(|error| Invalid::new("memberships", format!("must be a JSON array: {error}")))
            })?;
            (records, whole.id, whole.source)
        }
        None => {
            let at = "memberships[0]";
            let mut record: MembershipJson = object(at, json)?;
            let (id, source) = record.take_name();
            (vec![membership(at, record)?], id, source)
        }
    };
    Ok(v1::SetMembershipRequest {
        memberships,
        id: id.unwrap_or_default(),
        source: source.unwrap_or_default(),
        ..v1::SetMembershipRequest::default()
    })
}

/// A request as in the contract: the records under this name.
struct Whole<'a> {
    records: &'a RawValue,
    id: Option<String>,
    source: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct InvalidationJson {
    recipient: String,
    reason: Option<String>,
    #[serde(alias = "issued_before")]
    issued_before: Option<String>,
    #[serde(alias = "expires_at")]
    expires_at: Option<String>,
    id: Option<String>,
    source: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct MembershipJson {
    recipient: String,
    topic: String,
    // Required: who leaves it out most likely means `true`, and the default of the contract is `false`.
    member: bool,
    #[serde(alias = "expires_at")]
    expires_at: Option<String>,
    id: Option<String>,
    source: Option<String>,
}

/// A record that is a request by itself may have its id and source among its members.
trait Named: DeserializeOwned {
    fn take_name(&mut self) -> (Option<String>, Option<String>);
}

impl Named for InvalidationJson {
    fn take_name(&mut self) -> (Option<String>, Option<String>) {
        (self.id.take(), self.source.take())
    }
}

impl Named for MembershipJson {
    fn take_name(&mut self) -> (Option<String>, Option<String>) {
        (self.id.take(), self.source.take())
    }
}

/// A record inside its request, which has the id.
fn unnamed<T: Named>(at: &str, json: &[u8]) -> Result<T, Invalid> {
    let mut record: T = object(at, json)?;
    if record.take_name() == (None, None) {
        return Ok(record);
    }
    Err(Invalid::new(at, "the id and source are those of the request: write them beside it"))
}

fn membership(at: &str, record: MembershipJson) -> Result<v1::Membership, Invalid> {
    Ok(v1::Membership {
        recipient: record.recipient,
        topic: record.topic,
        member: record.member,
        expires_at: timestamp(&format!("{at}.expires_at"), record.expires_at)?,
    })
}

/// The request, if the object has this member and nothing but an id and a source beside it.
fn whole<'a>(json: &'a [u8], name: &str) -> Result<Option<Whole<'a>>, Invalid> {
    let (mut members, mut is_other) = (BTreeMap::new(), false);
    let read = streamed::members(json, |member, value| {
        match [name, "id", "source"].into_iter().find(|known| *known == member) {
            Some(known) if members.insert(known, value).is_some() => {
                return Err(Invalid::new(known, "is named twice"));
            }
            Some(_) => {}
            None => is_other = true,
        }
        Ok(())
    });
    read.map_err(|ended| {
        ended.invalid(|error| Invalid::new("", format!("a record must be a JSON object: {error}")))
    })?;
    if is_other {
        return Ok(None);
    }
    let Some(records) = members.get(name) else { return Ok(None) };
    let text = |name: &str| match members.get(name) {
        None => Ok(None),
        Some(value) => serde_json::from_str(value.get()).map_err(|_| Invalid::new(name, "must be a string")),
    };
    Ok(Some(Whole { records, id: text("id")?, source: text("source")? }))
}

fn object<T: DeserializeOwned>(at: &str, json: &[u8]) -> Result<T, Invalid> {
    // Derived readers would also take an array of the members in order.
    if !json.trim_ascii_start().starts_with(b"{") {
        return Err(Invalid::new(at, "must be a JSON object"));
    }
    serde_json::from_slice(json).map_err(|error| Invalid::new(at, error.to_string()))
}

fn timestamp(field: &str, text: Option<String>) -> Result<Option<Timestamp>, Invalid> {
    let Some(text) = text else { return Ok(None) };
    let invalid = || Invalid::new(field, "must be a time such as 2026-11-24T07:05:00Z");
    time::parse_timestamp(&text).map(Some).ok_or_else(invalid)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn alone_or_inside_their_request() {
        let record = v1::SessionInvalidation {
            recipient: "session:s".into(),
            reason: "signed out".into(),
            issued_before: Some(Timestamp { seconds: 0, nanos: 0 }),
            expires_at: Some(Timestamp { seconds: 86_400, nanos: 0 }),
        };
        let json = r#"{"recipient":"session:s","reason":"signed out","issuedBefore":"1970-01-01T00:00:00Z",
            "expires_at":"1970-01-02T00:00:00Z"}"#;
        let parse_invalidation = |json: &str| parse_invalidation(json.as_bytes()).unwrap();
        let request = |record: &v1::SessionInvalidation, id: &str, source: &str| v1::InvalidateRequest {
            invalidation: Some(record.clone()),
            id: id.into(),
            source: source.into(),
            ..v1::InvalidateRequest::default()
        };
        assert_eq!(parse_invalidation(json), request(&record, "", ""));
        assert_eq!(parse_invalidation(&format!("{{\"invalidation\":{json}}}")), request(&record, "", ""));
        let inside = format!("{{\"id\":\"a\",\"source\":\"/s\",\"invalidation\":{json}}}");
        assert_eq!(parse_invalidation(&inside), request(&record, "a", "/s"));
        let short = v1::SessionInvalidation { recipient: "user:1".into(), ..Default::default() };
        assert_eq!(parse_invalidation(r#"{"recipient":"user:1","reason":null}"#), request(&short, "", ""));
        let beside = r#"{"source":"/s","recipient":"user:1","id":"a"}"#;
        assert_eq!(parse_invalidation(beside), request(&short, "a", "/s"));

        let member = v1::Membership {
            recipient: "user:42".into(),
            topic: "a/*".into(),
            member: true,
            expires_at: Some(Timestamp { seconds: 86_400, nanos: 0 }),
        };
        let left = v1::Membership { member: false, expires_at: None, ..member.clone() };
        let one = r#"{"recipient":"user:42","topic":"a/*","member":true,"expiresAt":"1970-01-02T00:00:00Z"}"#;
        let other = r#"{"recipient":"user:42","topic":"a/*","member":false}"#;
        let parse_memberships = |json: &[u8]| parse_memberships(json).map(|request| request.memberships);
        assert_eq!(parse_memberships(one.as_bytes()), Ok(vec![member.clone()]));
        let both = format!(r#"{{"memberships":[{one},{other}]}}"#);
        let named = super::parse_memberships(both.replacen('{', r#"{"id":"a","source":"/s","#, 1).as_bytes())
            .unwrap();
        assert_eq!((named.id.as_str(), named.source.as_str(), named.memberships.len()), ("a", "/s", 2));
        assert_eq!(parse_memberships(both.as_bytes()), Ok(vec![member, left]));
        assert_eq!(parse_memberships(br#"{"memberships":[]}"#), Ok(vec![]));
    }

    #[test]
    fn what_is_no_record_says_where_it_is_wrong() {
        let invalidation = |json: &str| parse_invalidation(json.as_bytes()).unwrap_err();
        let memberships = |json: &str| parse_memberships(json.as_bytes()).unwrap_err();
        for (invalid, field, part) in [
            (invalidation(""), "", "must be a JSON object"),
            (invalidation("[]"), "", "must be a JSON object"),
            (invalidation("{}"), "invalidation", "missing field `recipient`"),
            (invalidation(r#"{"invalidation":[]}"#), "invalidation", "must be a JSON object"),
            (invalidation(r#"{"recipient":"user:1","id":5}"#), "invalidation", "expected a string"),
            (invalidation(r#"{"invalidation":{"recipient":"user:1"},"id":5}"#), "id", "must be a string"),
            (
                memberships(r#"{"memberships":[{"recipient":"user:1","topic":"a","member":true,"id":"x"}]}"#),
                "memberships[0]",
                "write them beside it",
            ),
            (invalidation(r#"{"recipient":5}"#), "invalidation", "expected a string"),
            (
                invalidation(r#"{"recipient":"user:1","expires":"x"}"#),
                "invalidation",
                "unknown field `expires`",
            ),
            (
                invalidation(r#"{"recipient":"user:1","expiresAt":"tomorrow"}"#),
                "invalidation.expires_at",
                "must be a time",
            ),
            (
                memberships(r#"{"recipient":"user:1","topic":"a"}"#),
                "memberships[0]",
                "missing field `member`",
            ),
            (memberships(r#"{"memberships":{}}"#), "memberships", "must be a JSON array"),
            (
                memberships(r#"{"memberships":[["user:1","a",true]]}"#),
                "memberships[0]",
                "must be a JSON object",
            ),
            (
                memberships(r#"{"memberships":[],"namespace":"x"}"#),
                "memberships[0]",
                "unknown field `memberships`",
            ),
        ] {
            assert_eq!(invalid.field, field, "{invalid}");
            assert!(invalid.message.contains(part), "{invalid}");
        }
    }
}
