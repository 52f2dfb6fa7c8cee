//! The bytes of what one hub asks another of a stream, and of the answer ([`Fence::ask`](crate::Fence::ask)).
//!
//! Pure. What is read may come from anybody who may publish on the subjects of the hubs. All numbers are little-endian.

use std::time::Duration;

use super::HubId;
use super::bucket::{Unreadable, VERSION, versioned};
use crate::fence::{Question, Stream};
use crate::fields::{Fields, put_bytes};

/// A question on its way.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Asked {
    /// Who asks.
    pub from: HubId,
    /// Which of its questions it is.
    pub number: u64,
    /// What it asks.
    pub question: Question,
}

/// An answer on its way. Which question it answers the subject says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Answer(pub Option<Stream>);

impl Asked {
    /// Its bytes.
    #[must_use]
    pub fn write(&self) -> Vec<u8> {
        let Self { from, number, question: Question { gateway, instance, pings } } = self;
        let mut out = vec![VERSION];
        out.extend_from_slice(&from.0.to_le_bytes());
        out.extend_from_slice(&number.to_le_bytes());
        out.push(u8::from(*pings));
        for text in [gateway, instance] {
            put_bytes(&mut out, text.as_bytes());
        }
        out
    }

    /// Reads its bytes. What a later hub has put behind them is passed over.
    ///
    /// # Errors
    ///
    /// [`Unreadable`]: they are none.
    pub fn read(bytes: &[u8]) -> Result<Self, Unreadable> {
        let fields = versioned(bytes)?;
        Self::read_fields(fields).ok_or(Unreadable::Foreign)
    }

    fn read_fields(mut fields: Fields<'_>) -> Option<Self> {
        let (from, number, pings) = (HubId(fields.u128()?), fields.u64()?, fields.flag()?);
        let mut text = || fields.text().map(str::to_owned);
        let (gateway, instance) = (text()?, text()?);
        Some(Self { from, number, question: Question { gateway, instance, pings } })
    }
}

impl Answer {
    /// Its bytes.
    #[must_use]
    pub fn write(self) -> Vec<u8> {
        let mut out = vec![VERSION, u8::from(self.0.is_some())];
        let Stream { is_alive, open_for, attempt_for } = self.0.unwrap_or_default();
        out.push(u8::from(is_alive));
        for time in [open_for, attempt_for] {
            let ms = u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
            out.extend_from_slice(&ms.to_le_bytes());
        }
        out
    }

    /// Reads its bytes. What a later hub has put behind them is passed over.
    ///
    /// # Errors
    ///
    /// [`Unreadable`]: they are none.
    pub fn read(bytes: &[u8]) -> Result<Self, Unreadable> {
        let mut fields = versioned(bytes)?;
        let mut read = || {
            let (has_it, is_alive) = (fields.flag()?, fields.flag()?);
            let mut time = || fields.u64().map(Duration::from_millis);
            let stream = Stream { is_alive, open_for: time()?, attempt_for: time()? };
            Some(Self(has_it.then_some(stream)))
        };
        read().ok_or(Unreadable::Foreign)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_asked_and_answered_is_read_and_nothing_else() {
        let question = Question { gateway: "g".into(), instance: "i \u{e4}".into(), pings: true };
        let asked = Asked { from: HubId(7), number: 9, question };
        let stream =
            Stream { is_alive: true, open_for: Duration::from_millis(5), attempt_for: Duration::MAX };
        let read = Stream { attempt_for: Duration::from_millis(u64::MAX), ..stream };
        assert_eq!(Asked::read(&[asked.write(), vec![1]].concat()), Ok(asked.clone()));
        assert_eq!(Answer::read(&Answer(Some(stream)).write()), Ok(Answer(Some(read))));
        assert_eq!(Answer::read(&[Answer(None).write(), vec![1]].concat()), Ok(Answer(None)));
        for length in 1..asked.write().len() {
            assert_eq!(Asked::read(&asked.write()[..length]), Err(Unreadable::Foreign), "{length}");
        }
        for length in 1..Answer(None).write().len() {
            assert_eq!(Answer::read(&Answer(None).write()[..length]), Err(Unreadable::Foreign), "{length}");
        }
        assert_eq!(
            (Asked::read(&[2]), Answer::read(&[2])),
            (Err(Unreadable::Version(2)), Err(Unreadable::Version(2)))
        );
    }
}
