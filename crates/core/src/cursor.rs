//! Positions in a log and their text form. All position arithmetic of the project is in this file.
//!
//! Used by the window, the reader, the hub, the gateway and the link. To an application cursor text is opaque: it keeps the text and gives
//! it back. The link resumes with the text as it came; it parses cursors only to recognise a position that it has received before, the log
//! that it follows, and a text that is no cursor.
//!
//! In most logs positions follow one another without a hole, and the difference of two is a count. In a log that lies in a stream of NATS,
//! one message carries several entries. There a position is made of two numbers: which message of the stream, and which place in that
//! message ([`Cursor::in_message`]). The last entry of each message has the highest place that there is, so there are holes:
//!
//! ```text
//! message 7 with two entries     (7, 65534) (7, 65535)
//! message 8 with one entry                  (8, 65535)      from (7, 65535) to here: one entry, and 65,536 by subtraction
//! ```
//!
//! Gateways and clients see nothing of a log but its cursors, so the epoch says which it is: [`Epoch::has_holes`].
//!
//! # Two forms
//!
//! A position is a number in memory and a text on the wire:
//!
//! ```text
//! Cursor { epoch: E, seq: 527 }   ◄──►   "2.<22 letters of E>.c527"
//!                                         │  │                └ c: three digits follow, so that texts sort as numbers do
//!                                         │  └ 128 bits in base64url
//!                                         └ the version of the form
//! ```
//!
//! [`StartFrom::parse`] reads what a peer sent, which may also be `""`, `"oldest"` or a cursor of another version. [`Cursor::parse`]
//! reads only what this build writes.

#[cfg(test)]
mod tests;

use std::collections::VecDeque;
use std::fmt;
use std::str::FromStr;

/// The longest cursor text, in bytes.
pub const CURSOR_TEXT_MAX: usize = 128;

/// The reserved cursor text that asks for everything still held.
pub const OLDEST: &str = "oldest";

/// How many epochs that were left [`Epochs`] remembers.
pub const EPOCHS_REMEMBERED: usize = 8;

/// The version this build writes, the first field of a cursor's text. Version 1 wrote the position as a bare decimal,
/// which does not sort as text. This build does not read its cursors ([`StartFrom::Foreign`]): who presents one is told EPOCH_CHANGED.
pub const VERSION: &str = "2";

/// 128 bits in base64url without padding.
const EPOCH_TEXT_LEN: usize = 22;

/// Version, epoch, the letter and at most twenty digits, and the dots between them.
const TEXT_LEN_MAX: usize = 1 + 1 + EPOCH_TEXT_LEN + 1 + 1 + 20;

/// The most entries of one message in a log whose entries lie in messages.
pub const MESSAGE_ITEMS_MAX: usize = 1 << PLACE_BITS;

/// The highest number of a message whose entries have positions.
pub const MESSAGE_MAX: u64 = u64::MAX >> PLACE_BITS;

/// The lowest bits of a position are the place in its message, the others the message's number.
const PLACE_BITS: u32 = 16;

/// The highest bits of an epoch whose positions have holes: its text begins with `pack`.
const HOLES_MARK: u128 = 0b101001_011010_011100_100100;

/// How many bits the mark has.
const HOLES_MARK_BITS: u32 = 24;

const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";

/// One continuous life of a log: 128 random bits, drawn anew whenever continuity cannot be proven. Its text is 22 letters of base64url.
///
/// In a log whose positions have holes 24 of the bits are fixed ([`Epoch::with_holes`]). One in 16 million of other logs begins with
/// these by chance; the only harm is that gaps in it have no count.
///
/// Two epochs have no order: nobody can tell from the bits which life came first.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Epoch(pub u128);

/// A position within an epoch. The first event has position 1; 0 is the position before it.
///
/// Rises by one for each entry in most logs, and by any amount in a log with holes. Never falls within an epoch.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Seq(pub u64);

/// Where a reader stands in a log: the last position it has *passed*. Reading resumes with the one after it.
///
/// Two cursors of different epochs have no order, so this type has none either: see [`Cursor::follows`].
///
/// ```
/// use galaxy_push_core::cursor::{Cursor, Epoch, StartFrom};
///
/// let before_all = Cursor::start(Epoch(7));
/// let third = before_all.plus(3);
/// assert!(third.follows(before_all) && !before_all.follows(third));
/// assert_eq!(third.since(before_all), Some(3));
/// assert_eq!(third.since(Cursor::start(Epoch(8))), None, "another life of the log: nobody can count what lies between");
///
/// let text = third.to_string();
/// assert_eq!(Cursor::parse(&text), Ok(third));
/// assert_eq!(StartFrom::parse(&text), Ok(StartFrom::At(third)));
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Cursor {
    /// The life of the log this position belongs to.
    pub epoch: Epoch,
    /// The last position passed.
    pub seq: Seq,
}

/// What a reader asked for with the `cursor` field of its request.
///
/// ```
/// use galaxy_push_core::cursor::StartFrom;
///
/// assert_eq!(StartFrom::parse(""), Ok(StartFrom::Head));
/// assert_eq!(StartFrom::parse("oldest"), Ok(StartFrom::Oldest));
/// assert_eq!(StartFrom::parse("9.from-the-future"), Ok(StartFrom::Foreign), "well formed: it counts as another epoch");
/// assert!(StartFrom::parse("no cursor at all").is_err());
/// assert_eq!(StartFrom::parse_or_unreadable("no cursor at all"), StartFrom::Unreadable);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StartFrom {
    /// `""`: from the head on.
    Head,
    /// `"oldest"`: from the oldest event held.
    Oldest,
    /// After this position.
    At(Cursor),
    /// A well-formed cursor of a version this build does not know. It counts as another epoch.
    Foreign,
    /// No cursor, from somebody who could not act on a refusal: it must not wedge them, so they get a gap.
    Unreadable,
}

/// The text is not a cursor at all. Its `Display` says what to send instead; it never repeats the text, which may be anything.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MalformedCursor;

/// How far somebody came in each of the last [`EPOCHS_REMEMBERED`] epochs that were left, for the case that one comes back.
///
/// Two hubs that were meant to be two doors to one log may be two logs. A reader that was led from log A to log B and back to A has A up
/// to some position already, and goes on behind it:
///
/// ```text
/// in log a up to a9, then led to b1      leave(a9)
/// in log b up to b4, then led back to a5 leave(b4); goes_on(a5) is a9: a6 … a9 are not handed out twice
/// in log a up to a12, then led to b4     leave(a12); goes_on(b4) is b4
/// ```
#[derive(Clone, Debug, Default)]
pub struct Epochs {
    left: VecDeque<Cursor>,
    has_forgotten: bool,
}

impl Epochs {
    /// An epoch is left, at this position.
    ///
    /// One position is kept for each epoch, the latest. Beyond [`EPOCHS_REMEMBERED`] the one that was left first is forgotten, and
    /// [`has_forgotten`](Self::has_forgotten) says so from then on.
    pub fn leave(&mut self, at: Cursor) {
        self.left.retain(|left| left.epoch != at.epoch);
        self.left.push_back(at);
        if self.left.len() > EPOCHS_REMEMBERED {
            self.left.pop_front();
            self.has_forgotten = true;
        }
    }

    /// Whether this epoch was left, as far as that is remembered.
    #[must_use]
    pub fn contains(&self, epoch: Epoch) -> bool {
        self.left.iter().any(|left| left.epoch == epoch)
    }

    /// Whether more epochs were left than are remembered, so that any other one may have been among them.
    #[must_use]
    pub const fn has_forgotten(&self) -> bool {
        self.has_forgotten
    }

    /// Where whoever is led to `to` goes on: not before the position where that epoch was left.
    #[must_use]
    pub fn goes_on(&self, to: Cursor) -> Cursor {
        self.left.iter().copied().find(|left| left.follows(to)).unwrap_or(to)
    }
}

impl Seq {
    /// The position before the first event.
    pub const ZERO: Self = Self(0);

    /// The position after this one.
    #[must_use]
    pub const fn next(self) -> Self {
        Self(self.0 + 1)
    }

    /// How many positions lie in `(earlier, self]`; 0 when `earlier` is not earlier.
    #[must_use]
    pub const fn since(self, earlier: Self) -> u64 {
        self.0.saturating_sub(earlier.0)
    }
}

impl Cursor {
    /// The position before the first event of `epoch`.
    #[must_use]
    pub const fn start(epoch: Epoch) -> Self {
        Self { epoch, seq: Seq::ZERO }
    }

    /// The position after this one, in the same epoch.
    #[must_use]
    pub const fn next(self) -> Self {
        Self { epoch: self.epoch, seq: self.seq.next() }
    }

    /// The position `count` further on, in the same epoch.
    #[must_use]
    pub const fn plus(self, count: u64) -> Self {
        Self { epoch: self.epoch, seq: Seq(self.seq.0.saturating_add(count)) }
    }

    /// Whether this position comes after `earlier` in the same epoch. Positions of two epochs never follow one another.
    ///
    /// This is the only order on positions: `false` both ways means the same position, or two epochs.
    #[must_use]
    pub fn follows(self, earlier: Self) -> bool {
        self.epoch == earlier.epoch && self.seq > earlier.seq
    }

    /// How many entries lie in `(earlier, self]`, or `None` where nobody can know: across epochs, and where positions have
    /// holes.
    #[must_use]
    pub fn since(self, earlier: Self) -> Option<u64> {
        (self.epoch == earlier.epoch && !self.epoch.has_holes()).then(|| self.seq.since(earlier.seq))
    }

    /// The position of an entry of a message, with so many others of the same message behind it. Messages are numbered from 1
    /// on, up to [`MESSAGE_MAX`]; a number beyond that counts as that one.
    ///
    /// Later entries of one message have higher positions: the last of them has 0 others behind it, and the highest place.
    #[must_use]
    pub fn in_message(epoch: Epoch, message: u64, behind: u16) -> Self {
        Self { epoch, seq: Seq((message.min(MESSAGE_MAX) << PLACE_BITS) | u64::from(u16::MAX - behind)) }
    }

    /// The last position of a message, whatever lies in it; of message 0, the position before the first.
    #[must_use]
    pub fn end_of_message(epoch: Epoch, message: u64) -> Self {
        if message == 0 { Self::start(epoch) } else { Self::in_message(epoch, message, 0) }
    }

    /// The number of the message that this position lies in, in a log whose entries lie in messages.
    #[must_use]
    pub const fn message(self) -> u64 {
        self.seq.0 >> PLACE_BITS
    }

    /// Just before this position: the last one that does not include it. Of the first, the first.
    #[must_use]
    pub const fn before(self) -> Self {
        Self { epoch: self.epoch, seq: Seq(self.seq.0.saturating_sub(1)) }
    }

    /// Hands the text form to `with`: without the detours of `fmt`, because it is written for every event.
    pub(crate) fn with_text<T>(self, with: impl FnOnce(&[u8]) -> T) -> T {
        let mut text = [b'.'; TEXT_LEN_MAX];
        text[0] = VERSION.as_bytes()[0];
        text[2..2 + EPOCH_TEXT_LEN].copy_from_slice(&self.epoch.text());
        let letter = 3 + EPOCH_TEXT_LEN;
        let digits = self.seq.0.checked_ilog10().unwrap_or(0) as usize + 1;
        text[letter] = b'a' + (digits - 1) as u8;
        let mut rest = self.seq.0;
        for digit in text[letter + 1..=letter + digits].iter_mut().rev() {
            *digit = b'0' + (rest % 10) as u8;
            rest /= 10;
        }
        with(&text[..=letter + digits])
    }

    /// Parses the one text form of a position of this build's version.
    ///
    /// # Errors
    ///
    /// [`MalformedCursor`] for anything [`Cursor`]'s `Display` does not write, unknown versions included. Use
    /// [`StartFrom::parse`] for what a peer sent.
    pub fn parse(text: &str) -> Result<Self, MalformedCursor> {
        let mut fields = text.split('.');
        let (Some(VERSION), Some(epoch), Some(seq), None) =
            (fields.next(), fields.next(), fields.next(), fields.next())
        else {
            return Err(MalformedCursor);
        };
        Ok(Self { epoch: epoch.parse()?, seq: seq.parse()? })
    }
}

impl StartFrom {
    /// Reads the `cursor` field of a request.
    ///
    /// # Errors
    ///
    /// [`MalformedCursor`] when the text is outside the grammar `[A-Za-z0-9._-]{1,128}` starting with a digit, or
    /// claims this build's version and does not keep its form.
    pub fn parse(text: &str) -> Result<Self, MalformedCursor> {
        match text {
            "" => return Ok(Self::Head),
            OLDEST => return Ok(Self::Oldest),
            _ => {}
        }
        let allowed = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-');
        let bytes = text.as_bytes();
        if bytes.len() > CURSOR_TEXT_MAX || !bytes[0].is_ascii_digit() || !bytes.iter().all(|b| allowed(*b)) {
            return Err(MalformedCursor);
        }
        if text.split('.').next() == Some(VERSION) {
            Cursor::parse(text).map(Self::At)
        } else {
            Ok(Self::Foreign)
        }
    }

    /// As [`StartFrom::parse`], for whoever presents what they hold without knowing what it is, and cannot act on a refusal: a
    /// browser that reconnects by itself, a client from before cursors had a form.
    #[must_use]
    pub fn parse_or_unreadable(text: &str) -> Self {
        Self::parse(text).unwrap_or(Self::Unreadable)
    }
}

/// One letter for the number of digits, `a` for one to `t` for twenty, and the decimal without sign or leading zeros: one
/// position has one text, and texts sort by bytes as their positions do.
impl fmt::Display for Seq {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let further_digits = self.0.checked_ilog10().unwrap_or(0) as u8;
        write!(f, "{}{}", char::from(b'a' + further_digits), self.0)
    }
}

impl FromStr for Seq {
    type Err = MalformedCursor;

    fn from_str(text: &str) -> Result<Self, MalformedCursor> {
        let (Some(letter), Some(digits)) = (text.bytes().next(), text.get(1..)) else {
            return Err(MalformedCursor);
        };
        let counted = usize::from(letter).checked_sub(usize::from(b'a') - 1) == Some(digits.len());
        let canonical = digits == "0" || !digits.starts_with('0');
        if !counted || !canonical || !digits.bytes().all(|b| b.is_ascii_digit()) {
            return Err(MalformedCursor);
        }
        digits.parse().map(Self).map_err(|_| MalformedCursor)
    }
}

impl FromStr for Epoch {
    type Err = MalformedCursor;

    fn from_str(text: &str) -> Result<Self, MalformedCursor> {
        if text.len() != EPOCH_TEXT_LEN {
            return Err(MalformedCursor);
        }
        // 22 digits of 6 bits are 132 bits: the last digit carries only the 2 lowest bits of the 128.
        let mut bits: u128 = 0;
        for (i, byte) in text.bytes().enumerate() {
            let digit = base64_digit(byte).ok_or(MalformedCursor)?;
            if i + 1 < EPOCH_TEXT_LEN {
                bits = (bits << 6) | u128::from(digit);
            } else if digit & 0b1111 == 0 {
                bits = (bits << 2) | u128::from(digit >> 4);
            } else {
                return Err(MalformedCursor);
            }
        }
        Ok(Self(bits))
    }
}

fn base64_digit(byte: u8) -> Option<u8> {
    match byte {
        b'A'..=b'Z' => Some(byte - b'A'),
        b'a'..=b'z' => Some(byte - b'a' + 26),
        b'0'..=b'9' => Some(byte - b'0' + 52),
        b'-' => Some(62),
        b'_' => Some(63),
        _ => None,
    }
}

impl Epoch {
    /// An epoch in which positions have holes. The lowest 104 of these random bits are in it.
    #[must_use]
    pub const fn with_holes(random: u128) -> Self {
        let others = u128::MAX >> HOLES_MARK_BITS;
        Self((HOLES_MARK << (u128::BITS - HOLES_MARK_BITS)) | (random & others))
    }

    /// Whether the difference of two positions is no count of what lies between them.
    #[must_use]
    pub const fn has_holes(self) -> bool {
        self.0 >> (u128::BITS - HOLES_MARK_BITS) == HOLES_MARK
    }

    fn text(self) -> [u8; EPOCH_TEXT_LEN] {
        let mut text = [0u8; EPOCH_TEXT_LEN];
        for (i, slot) in text.iter_mut().enumerate() {
            let digit = if i + 1 < EPOCH_TEXT_LEN { self.0 >> (122 - 6 * i) } else { self.0 << 4 };
            *slot = ALPHABET[(digit & 0b11_1111) as usize];
        }
        text
    }
}

impl fmt::Display for Epoch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(std::str::from_utf8(&self.text()).map_err(|_| fmt::Error)?)
    }
}

impl fmt::Display for Cursor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.with_text(|text| f.write_str(std::str::from_utf8(text).map_err(|_| fmt::Error)?))
    }
}

impl fmt::Debug for Epoch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Epoch({self})")
    }
}

impl fmt::Debug for Cursor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Cursor({self})")
    }
}

impl fmt::Display for MalformedCursor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(
            "not a cursor: send back a cursor exactly as it was received, \"oldest\", or nothing for the head",
        )
    }
}

impl std::error::Error for MalformedCursor {}
