//! What a user sends over a WebSocket in JSON: `{"connect":{…}}`, `{"subscribe":{…}}`, `{"unsubscribe":{…}}`,
//! `{"refresh":{…}}`.
//!
//! As in proto3's JSON mapping, members may have their lowerCamelCase or their proto name, `null` means the default,
//! and unknown members are ignored, so that newer clients can talk to older gateways.

use serde::{Deserialize, de::DeserializeOwned};
use serde_json::value::RawValue;

use super::{streamed, without_bom};
use crate::{
    Invalid,
    v1::{self, client_frame::Kind},
};

/// The longest list in a frame: more than the topics of a connection, so that whoever asks for too many is told how many
/// there may be.
const TEXTS_MAX: usize = 1_024;

type Texts = streamed::Texts<TEXTS_MAX>;

const KINDS: [&str; 4] = ["connect", "subscribe", "unsubscribe", "refresh"];

/// Reads one frame of a user.
///
/// # Errors
///
/// Not a JSON object, an empty one, several kinds, or a member of the wrong type. One kind that is not known is none.
pub fn parse_client_frame(json: &[u8]) -> Result<v1::ClientFrame, Invalid> {
    let several = || {
        let message = "a frame must hold exactly one of `connect`, `subscribe`, `unsubscribe` and `refresh`";
        Invalid::new("", message)
    };
    let (mut known, mut others) = (None, 0);
    let read = streamed::members(without_bom(json), |member, body| {
        match KINDS.into_iter().find(|kind| *kind == member) {
            Some(kind) => match known.replace((kind, body)) {
                Some((before, _)) if before == kind => Err(Invalid::new(kind, "is named twice")),
                Some(_) => Err(several()),
                None => Ok(()),
            },
            None => {
                others += 1;
                Ok(())
            }
        }
    });
    read.map_err(|ended| {
        ended.invalid(|error| Invalid::new("", format!("a frame must be a JSON object: {}", why(&error))))
    })?;
    let (kind, body) = match known {
        Some(kind) => kind,
        // A kind of a newer contract: whoever reads it skips it.
        None if others == 1 => return Ok(v1::ClientFrame { kind: None }),
        None => return Err(several()),
    };
    let kind = match kind {
        "connect" => Kind::Connect(parse::<ConnectJson>(kind, body)?.into()),
        "subscribe" => Kind::Subscribe(parse::<TopicsJson>(kind, body)?.into()),
        "unsubscribe" => Kind::Unsubscribe(parse::<TopicsJson>(kind, body)?.into()),
        _ => Kind::Refresh(parse::<RefreshJson>(kind, body)?.into()),
    };
    Ok(v1::ClientFrame { kind: Some(kind) })
}

fn parse<T: DeserializeOwned>(kind: &str, body: &RawValue) -> Result<T, Invalid> {
    // The whole object is read by name: derived readers would also take an array of the members in order.
    if !body.get().starts_with('{') {
        return Err(Invalid::new(kind, "must be a JSON object"));
    }
    serde_json::from_str(body.get()).map_err(|error| Invalid::new(kind, why(&error)))
}

/// What is wrong, without any of what was sent: there are tokens in it, and this is logged.
fn why(error: &serde_json::Error) -> String {
    if error.classify() == serde_json::error::Category::Data {
        return format!(
            "what stands before column {} of line {} is of the wrong type",
            error.column(),
            error.line()
        );
    }
    error.to_string()
}

#[derive(Deserialize)]
#[serde(default, rename_all = "camelCase")]
#[derive(Default)]
struct ConnectJson {
    token: Option<String>,
    cursor: Option<String>,
    topics: Option<Texts>,
    user: Option<String>,
    session: Option<String>,
    features: Option<Texts>,
    #[serde(alias = "max_receive_bytes")]
    max_receive_bytes: Option<Uint32>,
    namespace: Option<String>,
}

#[derive(Deserialize)]
struct TopicsJson {
    topics: Option<Texts>,
}

#[derive(Deserialize)]
struct RefreshJson {
    token: Option<String>,
}

/// An integer, as a number or as a string.
#[derive(Deserialize)]
#[serde(try_from = "serde_json::Value")]
struct Uint32(u32);

impl TryFrom<serde_json::Value> for Uint32 {
    type Error = &'static str;

    fn try_from(value: serde_json::Value) -> Result<Self, Self::Error> {
        let number = match &value {
            serde_json::Value::String(text) => text.parse().ok(),
            other => other.as_u64().and_then(|number| u32::try_from(number).ok()),
        };
        number.map(Self).ok_or("expected an integer of 32 bits without sign")
    }
}

fn texts(list: Option<Texts>) -> Vec<String> {
    list.map(|list| list.0).unwrap_or_default()
}

impl From<ConnectJson> for v1::Connect {
    fn from(json: ConnectJson) -> Self {
        Self {
            token: json.token.unwrap_or_default(),
            cursor: json.cursor.unwrap_or_default(),
            topics: texts(json.topics),
            user: json.user.unwrap_or_default(),
            session: json.session.unwrap_or_default(),
            features: texts(json.features),
            max_receive_bytes: json.max_receive_bytes.map_or(0, |bytes| bytes.0),
            namespace: json.namespace.unwrap_or_default(),
        }
    }
}

impl From<TopicsJson> for v1::Topics {
    fn from(json: TopicsJson) -> Self {
        Self { topics: texts(json.topics) }
    }
}

impl From<RefreshJson> for v1::Refresh {
    fn from(json: RefreshJson) -> Self {
        Self { token: json.token.unwrap_or_default() }
    }
}
