//! What a gateway asks for when it subscribes, checked field by field.
//!
//! `push.rs` makes it of a request and hands it to [`Subscription::open`](super::Subscription::open). A request that breaks
//! a rule is refused with the field that does. It claims nothing and reads no log.
//!
//! | field | rule |
//! |---|---|
//! | `gateway_client_id` | an id of 1 to 255 bytes, which the caller may act as |
//! | `instance_id` | at most 255 bytes; empty: an old client |
//! | `cursor` | empty, `oldest`, or a cursor; of an old client anything, because it could not act on a refusal |
//! | `recipients` | at most 1,024, within the caller's scope; empty: the scope itself |
//! | `max_receive_bytes` | at least 1 KiB; 0: 4 MiB |

use galaxy_push_core::cursor::StartFrom;
use galaxy_push_core::reader::Records;
use galaxy_push_core::recipient::{ID_BYTES_MAX, Pattern, check_id, is_format};
use galaxy_push_proto::v1::GatewaySubscribeRequest;
use galaxy_push_proto::{Failure, Reason, feature};

use crate::app::publish::check_namespace;
use crate::state::access::Caller;
use crate::state::ownership::Claim;
use crate::state::patterns::Patterns;

/// The most recipients and patterns a stream is filtered by.
const PATTERNS_MAX: usize = 1_024;

/// What a peer takes unless it says: gRPC's usual limit.
const RECEIVE_BYTES_DEFAULT: usize = 4 << 20;

/// Less than this no peer may ask for: control frames must fit, with their longest cursors.
const RECEIVE_BYTES_MIN: usize = 1 << 10;

/// A subscribe request that is in order.
#[derive(Debug)]
pub(crate) struct SubscribeRequest {
    /// The id it asks for, and as which process.
    pub(crate) claim: Claim,
    /// Who was authorized, acting as this gateway id.
    pub(crate) caller: Caller,
    /// From where it wants to read.
    pub(crate) ask: StartFrom,
    /// The cursor as it was sent.
    pub(crate) cursor: String,
    /// Which recipients it wants events of; `None`: all.
    pub(crate) filter: Option<Patterns>,
    /// The largest message the peer takes, in bytes.
    pub(crate) message_max: usize,
    pub(crate) features: Features,
}

/// What the peer understands besides events, as far as this hub has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Features {
    /// `Standing` frames: the records that hold, sent at once.
    pub(crate) standing: bool,
    /// Which records it understands in the log.
    pub(crate) records: Records,
    /// It named none at all and has no instance id: a client from before control frames.
    pub(crate) is_old: bool,
}

impl Features {
    /// The features that the request lists. Names that this hub does not know are skipped.
    fn of(request: &GatewaySubscribeRequest) -> Self {
        let has = |name: &str| request.features.iter().any(|feature| feature == name);
        Self {
            standing: has(feature::STANDING),
            records: Records {
                invalidations: has(feature::SESSION_INVALIDATION),
                memberships: has(feature::MEMBERSHIP),
            },
            is_old: request.features.is_empty() && request.instance_id.is_empty(),
        }
    }
}

impl SubscribeRequest {
    /// Checks a request of this caller.
    ///
    /// # Errors
    ///
    /// It breaks a rule (the field is named), or the caller may not ask for this.
    pub(crate) fn check(
        request: GatewaySubscribeRequest,
        peer: String,
        caller: &Caller,
    ) -> Result<Self, Failure> {
        let invalid =
            |field: String, message: String| Failure::new(Reason::RequestInvalid, message).field(field);
        check_namespace(&request.namespace)?;
        check_id(&request.gateway_client_id).map_err(|error| {
            invalid(
                "gateway_client_id".into(),
                format!("gateway_client_id: {error}; give each gateway an id of its own"),
            )
        })?;
        let is_shown = |c: char| !c.is_control() && !c.is_whitespace() && !is_format(c);
        if request.instance_id.len() > ID_BYTES_MAX || !request.instance_id.chars().all(is_shown) {
            let message =
                "instance_id: must be at most 255 bytes without spaces, control and format characters";
            return Err(invalid("instance_id".into(), message.into()));
        }
        // A client from before instance ids cannot act on a refusal, and would come back with the same cursor for ever.
        let ask = if request.instance_id.is_empty() {
            StartFrom::parse_or_unreadable(&request.cursor)
        } else {
            StartFrom::parse(&request.cursor)
                .map_err(|error| Failure::new(Reason::CursorMalformed, error.to_string()).field("cursor"))?
        };
        let message_max = match request.max_receive_bytes as usize {
            0 => RECEIVE_BYTES_DEFAULT,
            bytes @ RECEIVE_BYTES_MIN.. => bytes,
            bytes => {
                let message = format!(
                    "max_receive_bytes: {bytes} is less than {RECEIVE_BYTES_MIN}; control frames must fit"
                );
                return Err(invalid("max_receive_bytes".into(), message));
            }
        };
        let features = Features::of(&request);
        if request.recipients.len() > PATTERNS_MAX {
            let message = format!("recipients: more than {PATTERNS_MAX}; a trailing * matches any rest");
            return Err(invalid("recipients".into(), message));
        }
        let patterns = request.recipients.iter().enumerate().map(|(i, text)| {
            Pattern::parse(text).map_err(|error| {
                let message = format!("recipients[{i}]: {error}; a trailing * matches any rest");
                Failure::new(Reason::RecipientInvalid, message).field(format!("recipients[{i}]"))
            })
        });
        let patterns = patterns.collect::<Result<Vec<_>, _>>()?;
        let caller = caller.acting_as(&request.gateway_client_id, "subscribe")?;
        let patterns = caller.subscribe(patterns)?;
        Ok(Self {
            claim: Claim {
                gateway: request.gateway_client_id,
                instance: request.instance_id,
                attempt: request.attempt,
                peer,
                identity: caller.name().to_owned(),
                learns_of_invalidations: features.standing && features.records.invalidations,
            },
            caller,
            ask,
            cursor: request.cursor,
            filter: (!patterns.is_empty()).then(|| Patterns::new(&patterns)),
            message_max,
            features,
        })
    }
}
