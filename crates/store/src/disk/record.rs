//! What a group holds: records, one behind another.
//!
//! Pure. A [`Record::Context`] says whose the records behind it are and when they were taken. An entry's frame is the very
//! bytes that the window holds.

use galaxy_push_core::frame::LogKind;
use galaxy_push_core::window::Traits;

use crate::dedup::Content;
use crate::fields::{Fields, kind_byte, put_bytes};

const CONTEXT: u8 = 1;
const ENTRY: u8 = 2;
const KEY: u8 = 3;
const STANDING: u8 = 4;
const CARRIED_KEY: u8 = 5;
const CUT: u8 = 6;

/// One record, borrowed from the bytes of its group.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Record<'a> {
    /// Whose the records behind it are.
    Context(Context<'a>),
    /// What has a position: the one after the last.
    Entry(Entry<'a>),
    /// A key by which a repetition is recognised, of something that is not in the log or no longer.
    Key(Known<'a>),
    /// Some key of this time, by the clock of the log, had to go before its time, and none of a later one.
    Cut { at_unix_ms: u64 },
    /// A standing record that was applied long ago, and holds.
    Standing { kind: LogKind, message: &'a [u8] },
}

/// Whose records these are, and when they were taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Context<'a> {
    /// The publisher to whom the keys belong.
    pub(crate) publisher: &'a str,
    /// In whose share of the room standing records lie, where publishers are told apart.
    pub(crate) share: Option<&'a str>,
    /// By the wall clock, in milliseconds since the Unix epoch.
    pub(crate) wall_unix_ms: u64,
    /// By the clock of the log, likewise.
    pub(crate) stamp_unix_ms: u64,
}

/// An event or standing record in its place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Entry<'a> {
    pub(crate) kind: LogKind,
    pub(crate) traits: Traits,
    /// By what a repetition is told from another event under the same key.
    pub(crate) content: Option<Content>,
    /// The framed message.
    pub(crate) frame: &'a [u8],
}

/// A key, and what was published with it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Known<'a> {
    pub(crate) text: &'a str,
    pub(crate) content: Content,
    /// The position it got; 0: none.
    pub(crate) seq: u64,
    /// When, by the clock of the log.
    pub(crate) at_unix_ms: u64,
    /// It is here once more, because the segment that it lay in was to go.
    pub(crate) carried: bool,
}

impl Context<'_> {
    pub(crate) fn put(&self, out: &mut Vec<u8>) {
        out.push(CONTEXT);
        put_bytes(out, self.publisher.as_bytes());
        out.push(self.share.is_some().into());
        put_bytes(out, self.share.unwrap_or_default().as_bytes());
        out.extend_from_slice(&self.wall_unix_ms.to_le_bytes());
        out.extend_from_slice(&self.stamp_unix_ms.to_le_bytes());
    }
}

/// Puts an entry, whose message is framed here, once: the frame of the window.
pub(crate) fn put_entry(
    out: &mut Vec<u8>,
    kind: LogKind,
    traits: Traits,
    content: Option<Content>,
    frame: impl FnOnce(&mut Vec<u8>),
) -> std::ops::Range<usize> {
    out.extend_from_slice(&[ENTRY, kind_byte(kind), traits.bits(), content.is_some().into()]);
    if let Some(content) = content {
        out.extend_from_slice(&content.to_bytes());
    }
    out.extend_from_slice(&[0; 4]);
    let start = out.len();
    frame(out);
    let length = (out.len() - start) as u32;
    out[start - 4..start].copy_from_slice(&length.to_le_bytes());
    start..out.len()
}

impl Known<'_> {
    pub(crate) fn put(&self, out: &mut Vec<u8>) {
        out.push(if self.carried { CARRIED_KEY } else { KEY });
        out.extend_from_slice(&self.content.to_bytes());
        out.extend_from_slice(&self.seq.to_le_bytes());
        out.extend_from_slice(&self.at_unix_ms.to_le_bytes());
        put_bytes(out, self.text.as_bytes());
    }
}

pub(crate) fn put_cut(out: &mut Vec<u8>, at_unix_ms: u64) {
    out.push(CUT);
    out.extend_from_slice(&at_unix_ms.to_le_bytes());
}

pub(crate) fn put_standing(out: &mut Vec<u8>, kind: LogKind, message: &[u8]) {
    out.extend_from_slice(&[STANDING, kind_byte(kind)]);
    put_bytes(out, message);
}

/// The records of a group's body, up to the first that makes no sense, which is an `Err`.
pub(crate) fn records(body: &[u8]) -> impl Iterator<Item = Result<Record<'_>, Nonsense>> {
    let mut rest = Fields(body);
    std::iter::from_fn(move || {
        if rest.0.is_empty() {
            return None;
        }
        let record = next(&mut rest).ok_or(Nonsense);
        if record.is_err() {
            rest.0 = &[];
        }
        Some(record)
    })
}

/// The checksum is right, and yet it is no record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Nonsense;

fn next<'a>(rest: &mut Fields<'a>) -> Option<Record<'a>> {
    match rest.u8()? {
        CONTEXT => {
            let publisher = rest.text()?;
            let has_share = rest.u8()? != 0;
            let share = rest.text()?;
            let (wall_unix_ms, stamp_unix_ms) = (rest.u64()?, rest.u64()?);
            let share = has_share.then_some(share);
            Some(Record::Context(Context { publisher, share, wall_unix_ms, stamp_unix_ms }))
        }
        ENTRY => {
            let (kind, traits, has_content) = (rest.kind()?, rest.u8()?, rest.u8()? != 0);
            let content = if has_content { Some(rest.content()?) } else { None };
            let frame = rest.bytes()?;
            Some(Record::Entry(Entry { kind, traits: Traits::from_bits(traits), content, frame }))
        }
        tag @ (KEY | CARRIED_KEY) => {
            let carried = tag == CARRIED_KEY;
            let (content, seq, at_unix_ms) = (rest.content()?, rest.u64()?, rest.u64()?);
            Some(Record::Key(Known { text: rest.text()?, content, seq, at_unix_ms, carried }))
        }
        CUT => Some(Record::Cut { at_unix_ms: rest.u64()? }),
        STANDING => Some(Record::Standing { kind: rest.kind()?, message: rest.bytes()? }),
        _ => None,
    }
}
