//! What the leader of the stream says of it, and what that means: where the log ends, and whether it still is the log that was read.
//!
//! Pure. Positions name one payload for ever. So a hub ends where the stream is another one than it has read, or has less than it has
//! read: whatever comes now would get positions that were given out. A leader that was cut off answers with less for a while,
//! hence not at once, and hence it is not always believed where the log ends.

use std::time::Duration;

use galaxy_push_core::cursor::{Cursor, Epoch};

/// So many answers one after another must say that the log lacks what was read.
const ANSWERS: u32 = 5;

/// A leader that has not heard from the others for so long is not counted on.
const HEARD_WITHIN: Duration = Duration::from_secs(5);

/// Nor is it believed when it says where the log ends, after this time already: brokers that hear nothing of their leader have another
/// one after 4 s at the soonest, and that one may have stored more; while the old one gives up after 10 s only.
const SOLE_WITHIN: Duration = Duration::from_secs(3);

/// What the leader says of a stream.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct StreamView {
    /// Which log it is. `None`: none of a hub.
    pub epoch: Option<Epoch>,
    /// When it was made, in nanoseconds since the Unix epoch.
    pub made: i128,
    /// The number of the first message that it has, or of the first that it will have.
    pub first: u64,
    /// The number of the last message that it had; 0: it never had one.
    pub last: u64,
    /// When the message that this hub has read last was taken by a broker, in milliseconds since the Unix epoch, by what the stream has under its
    /// number now. `None`: it has it no more, or was not asked.
    pub stamp_unix_ms: Option<u64>,
    /// What it holds, in bytes.
    pub bytes: u64,
    /// How many brokers keep it.
    pub replicas: usize,
    /// How long ago the leader has heard from as many as it takes to store anything. `None`: from too few.
    pub heard: Option<Duration>,
}

impl StreamView {
    /// Whether the leader has heard of late from as many as it takes to store anything.
    #[must_use]
    pub fn has_majority(&self) -> bool {
        self.heard.is_some_and(|ago| ago < HEARD_WITHIN)
    }

    /// Where the log of this epoch ends, of which this hub has read up to message `read`.
    ///
    /// # Errors
    ///
    /// Why that is not known.
    pub fn end(&self, epoch: Epoch, read: u64) -> Result<Cursor, &'static str> {
        if self.epoch != Some(epoch) {
            return Err("the stream is another log now");
        }
        if self.heard.is_none_or(|ago| ago >= SOLE_WITHIN) {
            return Err("the leader of the stream has no majority, and there may be another one");
        }
        // What was read is there, though an answer may have been on its way for long.
        Ok(Cursor::end_of_message(epoch, self.last.max(read)))
    }
}

/// The last message that was read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LastRead {
    /// Its number.
    pub number: u64,
    /// When a broker took it, in milliseconds since the Unix epoch. `None`: it was lost.
    pub stamp_unix_ms: Option<u64>,
}

/// What came of a question.
#[derive(Debug)]
pub enum Answer {
    /// The leader has said this.
    StreamView(StreamView),
    /// There is no such stream.
    Gone,
    /// Nobody has answered.
    None,
}

/// What it means.
#[derive(Debug, PartialEq, Eq)]
pub enum Verdict {
    /// The stream is led, by a leader that has a majority behind it.
    Led,
    /// Nobody leads it, or nobody follows.
    Lost,
    /// This hub must end, and why.
    End(String),
    /// The log lacks what was read: it must have another epoch before anybody appends, and this hub ends.
    BeginAnew(String),
}

/// What was answered of late.
#[derive(Debug)]
pub struct Judge {
    epoch: Epoch,
    /// When the stream was made, as [`StreamView::made`].
    made: i128,
    /// How many answers in a row say that the log lacks what was read, or is gone.
    short: u32,
}

impl Judge {
    /// For a stream that had this epoch, and was made then.
    #[must_use]
    pub const fn new(epoch: Epoch, made: i128) -> Self {
        Self { epoch, made, short: 0 }
    }

    /// What an answer means. `last_read`: as it was when the question was asked.
    pub fn judge(&mut self, answer: &Answer, last_read: LastRead) -> Verdict {
        let read = last_read.number;
        let is_short = match answer {
            Answer::None => return Verdict::Lost, // neither one more nor the end of the row
            Answer::Gone => true,
            Answer::StreamView(look) if look.epoch != Some(self.epoch) => {
                let found = look.epoch.map_or_else(|| "none".to_owned(), |epoch| epoch.to_string());
                return Verdict::End(format!(
                    "the stream is another log: its epoch is {found}, and was {}",
                    self.epoch
                ));
            }
            // Somebody has removed it and made it again just so. It may soon be as long as it was, with other messages.
            Answer::StreamView(look) if look.made != self.made => {
                return Verdict::BeginAnew("the stream was removed and made again".to_owned());
            }
            // It was shorter meanwhile, and is as long as it was again. Every leader has one message under a number.
            Answer::StreamView(look)
                if last_read.stamp_unix_ms.zip(look.stamp_unix_ms).is_some_and(|(read, has)| read != has) =>
            {
                return Verdict::BeginAnew(format!(
                    "message {read} is another one than was read: the stream was put back to an earlier state"
                ));
            }
            Answer::StreamView(look) => look.last < read,
        };
        if !is_short {
            self.short = 0;
            let led = matches!(answer, Answer::StreamView(look) if look.has_majority());
            return if led { Verdict::Led } else { Verdict::Lost };
        }
        self.short += 1;
        match answer {
            _ if self.short < ANSWERS => Verdict::Lost,
            Answer::StreamView(look) => Verdict::BeginAnew(format!(
                "the stream ends with message {}, and {read} was read: it was put back to an earlier state",
                look.last
            )),
            Answer::Gone | Answer::None => Verdict::End("the stream was removed".to_owned()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(epoch: u128, last: u64) -> Answer {
        let epoch = Some(Epoch::with_holes(epoch << 24));
        Answer::StreamView(StreamView { epoch, last, heard: Some(Duration::ZERO), ..StreamView::default() })
    }

    const fn read(number: u64) -> LastRead {
        LastRead { number, stamp_unix_ms: None }
    }

    /// The fault: what was published before five answers had said that the log is short made it as long as it was.
    #[test]
    fn a_log_that_has_another_message_in_the_place_of_one_that_was_read_gets_another_epoch_at_once() {
        let mut judge = Judge::new(Epoch::with_holes(1 << 24), 0);
        let looked = |stamp_unix_ms| match answer(1, 5) {
            Answer::StreamView(look) => Answer::StreamView(StreamView { stamp_unix_ms, ..look }),
            other => other,
        };
        let read = |stamp_unix_ms| LastRead { number: 5, stamp_unix_ms };
        for same in [(Some(7), Some(7)), (Some(7), None), (None, Some(7)), (None, None)] {
            assert_eq!(judge.judge(&looked(same.0), read(same.1)), Verdict::Led, "{same:?}");
        }
        let verdict = judge.judge(&looked(Some(8)), read(Some(7)));
        assert!(matches!(verdict, Verdict::BeginAnew(why) if why.contains("message 5 is another one")));
    }

    #[test]
    fn another_epoch_ends_a_hub_at_once() {
        let mut judge = Judge::new(Epoch::with_holes(1 << 24), 0);
        assert_eq!(judge.judge(&answer(1, 5), read(5)), Verdict::Led);
        assert!(
            matches!(judge.judge(&answer(2, 5), read(5)), Verdict::End(why) if why.contains("another log"))
        );
        let none = Answer::StreamView(StreamView { last: 9, ..StreamView::default() });
        assert!(matches!(judge.judge(&none, read(5)), Verdict::End(_)));
    }

    #[test]
    fn a_stream_that_was_made_again_with_the_same_epoch_gets_another_one_at_once() {
        let mut judge = Judge::new(Epoch::with_holes(1 << 24), 0);
        let epoch = Some(Epoch::with_holes(1 << 24));
        let again = Answer::StreamView(StreamView {
            epoch,
            made: 1,
            last: 9,
            heard: Some(Duration::ZERO),
            ..StreamView::default()
        });
        assert!(
            matches!(judge.judge(&again, read(5)), Verdict::BeginAnew(why) if why.contains("made again"))
        );
    }

    #[test]
    fn a_log_that_lacks_what_was_read_gets_another_epoch_after_five_answers_in_a_row() {
        let mut judge = Judge::new(Epoch::with_holes(1 << 24), 0);
        for _ in 0..4 {
            assert_eq!(judge.judge(&answer(1, 4), read(5)), Verdict::Lost);
        }
        assert_eq!(judge.judge(&answer(1, 5), read(5)), Verdict::Led, "a leader that was cut off");
        for _ in 0..4 {
            assert_eq!(judge.judge(&answer(1, 4), read(5)), Verdict::Lost);
            assert_eq!(judge.judge(&Answer::None, read(5)), Verdict::Lost, "silence says nothing");
        }
        let verdict = judge.judge(&answer(1, 4), read(5));
        assert!(matches!(verdict, Verdict::BeginAnew(why) if why.contains("message 4, and 5 was read")));
    }

    #[test]
    fn a_stream_that_is_removed_ends_a_hub_after_five_answers() {
        let mut judge = Judge::new(Epoch::with_holes(1 << 24), 0);
        let verdicts: Vec<_> = (0..5).map(|_| judge.judge(&Answer::Gone, read(0))).collect();
        assert_eq!(verdicts[..4], [Verdict::Lost, Verdict::Lost, Verdict::Lost, Verdict::Lost]);
        assert_eq!(verdicts[4], Verdict::End("the stream was removed".to_owned()));
    }

    #[test]
    fn a_leader_without_a_majority_leads_nobody() {
        let mut judge = Judge::new(Epoch::with_holes(1 << 24), 0);
        let epoch = Some(Epoch::with_holes(1 << 24));
        let alone = Answer::StreamView(StreamView { epoch, last: 5, heard: None, ..StreamView::default() });
        assert_eq!(judge.judge(&alone, read(5)), Verdict::Lost);
    }

    #[test]
    fn a_leader_that_was_cut_off_is_not_believed_about_the_end() {
        let epoch = Epoch::with_holes(1 << 24);
        let look = |heard_ms: Option<u64>| StreamView {
            epoch: Some(epoch),
            last: 5,
            heard: heard_ms.map(Duration::from_millis),
            ..StreamView::default()
        };
        assert_eq!(look(Some(2_900)).end(epoch, 4), Ok(Cursor::end_of_message(epoch, 5)));
        assert_eq!(
            look(Some(0)).end(epoch, 7),
            Ok(Cursor::end_of_message(epoch, 7)),
            "what was read is there"
        );
        assert!(look(Some(3_000)).end(epoch, 4).is_err() && look(None).end(epoch, 4).is_err());
    }
}
