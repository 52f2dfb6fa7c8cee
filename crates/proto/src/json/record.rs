//! Standing records as they are sent in JSON: the members of the contract's messages, alone or inside their request.
//!
//! `{"recipient":"session:s"}` or `{"invalidation":{…}}`; `{"recipient":"user:42","topic":"orders","member":true}` or
//! `{"memberships":[…]}`. Names in lowerCamelCase or as in the proto file, times in RFC 3339. Unknown members are
//! refused: a misspelt `expiresAt` that is ignored would keep a record for ever.

use std::collections::BTreeMap;

use prost_types::Timestamp;
use serde::{Deserialize, de::DeserializeOwned};
use serde_json::value::RawValue;

use crate::{Invalid, time, v1};

/// Reads an invalidation.
///
/// # Errors
///
/// Not a JSON object of these members, or a time that is none.
pub fn parse_invalidation(json: &[u8]) -> Result<v1::SessionInvalidation, Invalid> {
    let at = "invalidation";
    let record: InvalidationJson = match inside(json, at)? {
        Some(inner) => object(at, inner.get().as_bytes())?,
        None => object(at, json)?,
    };
    Ok(v1::SessionInvalidation {
        recipient: record.recipient,
        reason: record.reason.unwrap_or_default(),
        issued_before: timestamp("invalidation.issued_before", record.issued_before)?,
        expires_at: timestamp("invalidation.expires_at", record.expires_at)?,
    })
}

/// Reads the memberships of one request.
///
/// # Errors
///
/// Not a JSON object of these members, or a time that is none.
pub fn parse_memberships(json: &[u8]) -> Result<Vec<v1::Membership>, Invalid> {
    let Some(list) = inside(json, "memberships")? else {
        return Ok(vec![membership("memberships[0]", json)?]);
    };
    let list: Vec<&RawValue> = serde_json::from_str(list.get())
        .map_err(|error| Invalid::new("memberships", format!("must be a JSON array: {error}")))?;
    let read = |(index, each): (usize, &&RawValue)| {
        membership(&format!("memberships[{index}]"), each.get().as_bytes())
    };
    list.iter().enumerate().map(read).collect()
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
}

fn membership(at: &str, json: &[u8]) -> Result<v1::Membership, Invalid> {
    let record: MembershipJson = object(at, json)?;
    Ok(v1::Membership {
        recipient: record.recipient,
        topic: record.topic,
        member: record.member,
        expires_at: timestamp(&format!("{at}.expires_at"), record.expires_at)?,
    })
}

/// What is inside, if the object has this one member.
fn inside<'a>(json: &'a [u8], name: &str) -> Result<Option<&'a RawValue>, Invalid> {
    let members: BTreeMap<String, &RawValue> = serde_json::from_slice(json)
        .map_err(|error| Invalid::new("", format!("a record must be a JSON object: {error}")))?;
    Ok(members.get(name).copied().filter(|_| members.len() == 1))
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
        assert_eq!(parse_invalidation(json.as_bytes()), Ok(record.clone()));
        assert_eq!(parse_invalidation(format!("{{\"invalidation\":{json}}}").as_bytes()), Ok(record));
        let short = v1::SessionInvalidation { recipient: "user:1".into(), ..Default::default() };
        assert_eq!(parse_invalidation(br#"{"recipient":"user:1","reason":null}"#), Ok(short));

        let member = v1::Membership {
            recipient: "user:42".into(),
            topic: "a/*".into(),
            member: true,
            expires_at: Some(Timestamp { seconds: 86_400, nanos: 0 }),
        };
        let left = v1::Membership { member: false, expires_at: None, ..member.clone() };
        let one = r#"{"recipient":"user:42","topic":"a/*","member":true,"expiresAt":"1970-01-02T00:00:00Z"}"#;
        let other = r#"{"recipient":"user:42","topic":"a/*","member":false}"#;
        assert_eq!(parse_memberships(one.as_bytes()), Ok(vec![member.clone()]));
        let both = format!(r#"{{"memberships":[{one},{other}]}}"#);
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
