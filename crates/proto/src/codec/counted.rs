//! How many fields a message may have, counted before it is decoded, in one pass and without a copy.
//!
//! The bounds are above those of the contract, so that whoever is a little above one of these is told which one, and a
//! stream of requests goes on; what they keep off is a message that costs many times its bytes.

use galaxy_push_core::recipient::RECIPIENTS_MAX;
use galaxy_push_core::wire::{Fields, Value};
use prost::Message;

use super::no_message;
use crate::validate::{ATTRIBUTES_MAX, EVENTS_MAX};
use crate::{Failure, Reason, v1};

/// The most fields of a message, each element of a list counted, but for those inside it. Twice what the contract allows
/// anywhere (1,000 events, 1,024 recipients).
pub const FIELDS_MAX: usize = 2_048;

/// The most fields of one event: twice its recipients and attributes, and each other field a few times.
const EVENT_FIELDS_MAX: usize = 2 * (RECIPIENTS_MAX + ATTRIBUTES_MAX) + 64;

/// The most fields of a message that has no list.
const RECORD_FIELDS_MAX: usize = 64;

/// All recipients and all attributes of one request: as many as all of its events may have.
const IN_ALL: [(&str, usize); 2] =
    [("recipients", EVENTS_MAX * RECIPIENTS_MAX), ("attributes", EVENTS_MAX * ATTRIBUTES_MAX)];

/// A message that is counted before it is decoded.
pub trait Counted: Message + Default {
    /// What its fields are.
    const SHAPE: &'static Shape = &FLAT;
}

/// Which fields of a message are messages, and how many fields it may have.
#[derive(Debug)]
pub struct Shape {
    fields_max: usize,
    inner: &'static [(u32, Inner)],
}

#[derive(Debug)]
struct Inner {
    /// Counted in all under this index of [`IN_ALL`].
    counts: Option<usize>,
    /// What it holds, if it is a message.
    shape: Option<&'static Shape>,
}

const fn message(shape: &'static Shape) -> Inner {
    Inner { counts: None, shape: Some(shape) }
}

static FLAT: Shape = Shape { fields_max: FIELDS_MAX, inner: &[] };
static SMALL: Shape = Shape { fields_max: RECORD_FIELDS_MAX, inner: &[] };
static RECORD: Shape =
    Shape { fields_max: RECORD_FIELDS_MAX, inner: &[(3, message(&SMALL)), (4, message(&SMALL))] };
static EVENT: Shape = Shape {
    fields_max: EVENT_FIELDS_MAX,
    inner: &[
        (1, Inner { counts: Some(0), shape: None }),
        (6, message(&SMALL)),
        (10, message(&SMALL)),
        (11, Inner { counts: Some(1), shape: Some(&SMALL) }),
    ],
};
static PUBLISH: Shape = Shape { fields_max: FIELDS_MAX, inner: &[(1, message(&EVENT))] };
static RECORDS: Shape = Shape { fields_max: FIELDS_MAX, inner: &[(1, message(&RECORD))] };
static REPORT: Shape = Shape { fields_max: FIELDS_MAX, inner: &[(5, message(&SMALL)), (6, message(&SMALL))] };
static CLIENT_FRAME: Shape = Shape {
    fields_max: RECORD_FIELDS_MAX,
    inner: &[(1, message(&FLAT)), (2, message(&FLAT)), (3, message(&FLAT)), (4, message(&SMALL))],
};

impl Counted for v1::PublishRequest {
    const SHAPE: &'static Shape = &PUBLISH;
}

impl Counted for v1::InvalidateRequest {
    const SHAPE: &'static Shape = &RECORDS;
}

impl Counted for v1::SetMembershipRequest {
    const SHAPE: &'static Shape = &RECORDS;
}

impl Counted for v1::ClientFrame {
    const SHAPE: &'static Shape = &CLIENT_FRAME;
}

impl Counted for v1::GatewayReport {
    const SHAPE: &'static Shape = &REPORT;
}

// Of these only the top level is counted: they are flat, or come from the side that keeps the log.
impl Counted for v1::GatewaySubscribeRequest {}
impl Counted for v1::ReplayRequest {}
impl Counted for v1::PushEvent {}
impl Counted for v1::PublishResponse {}
impl Counted for v1::RecordResponse {}
impl Counted for v1::HeadRequest {}
impl Counted for v1::HeadResponse {}
impl Counted for v1::ReportSummary {}

/// Whether a message of this shape may be decoded.
///
/// # Errors
///
/// It has too many fields somewhere, or cannot be counted: what the counting cannot read would not be counted either.
pub(super) fn check(bytes: &[u8], shape: &Shape) -> Result<(), Failure> {
    count(bytes, shape, &mut IN_ALL.map(|(_, max)| max))
}

fn count(bytes: &[u8], shape: &Shape, left: &mut [usize; 2]) -> Result<(), Failure> {
    for (number, field) in Fields::of(bytes).enumerate() {
        let (field, value) = field.map_err(|error| no_message(&error.to_string()))?;
        if number == shape.fields_max {
            return Err(too_many(shape.fields_max, "elements"));
        }
        let Some((_, inner)) = shape.inner.iter().find(|(inner, _)| *inner == field) else { continue };
        if let Some(at) = inner.counts {
            left[at] = left[at].checked_sub(1).ok_or_else(|| too_many(IN_ALL[at].1, IN_ALL[at].0))?;
        }
        if let (Some(shape), Value::Bytes(bytes)) = (inner.shape, value) {
            count(bytes, shape, left)?;
        }
    }
    Ok(())
}

fn too_many(max: usize, what: &str) -> Failure {
    Failure::new(Reason::RequestInvalid, format!("the message has more than {max} {what}: split it"))
}
