//! Asks the leader of the stream, every 2 s, which log it has and how far that goes.
//!
//! Positions name one payload for ever. So a hub ends where the stream is another one than it has read, or has less than it has
//! read: whatever comes now would get positions that were given out. A leader that was cut off answers with less for a while,
//! hence not at once.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use galaxy_push_core::ambient::Ambient;
use galaxy_push_core::cursor::Epoch;
use tokio::sync::mpsc;
use tokio::time::{MissedTickBehavior, interval, timeout};

use super::Shared;
use super::stream::{Log, Look};

/// How often it asks.
const ASK_EVERY: Duration = Duration::from_secs(2);

/// How long the leader may take.
const ASK_WITHIN: Duration = Duration::from_millis(1_900);

/// So many answers one after another must say that the log lacks what was read.
const ANSWERS: u32 = 5;

/// What the watch has to tell.
#[derive(Debug)]
pub(super) enum Seen {
    /// The leader has answered, and has a majority behind it.
    Led,
    /// Nobody leads, or nobody follows.
    Lost,
    /// The store must end, and why.
    End(String),
}

/// Asks until nobody wants to know.
pub(super) async fn run(
    log: Log,
    (epoch, made): (Epoch, i128),
    ambient: Ambient,
    shared: Arc<Shared>,
    to: mpsc::Sender<Seen>,
) {
    let mut ticks = interval(ASK_EVERY);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut judge = Judge::new(epoch, made);
    loop {
        ticks.tick().await;
        let (answer, read) = ask(&shared, log.look()).await;
        let seen = match judge.judge(&answer, read) {
            Verdict::Led => Seen::Led,
            Verdict::Lost => Seen::Lost,
            Verdict::End(why) => Seen::End(why),
            Verdict::BeginAnew(why) => {
                match log.begin_anew(epoch, Epoch::with_holes(ambient.random_128())).await {
                    Ok(()) => Seen::End(why),
                    Err(_) => Seen::Lost, // the next answer says it again
                }
            }
        };
        let is_end = matches!(seen, Seen::End(_));
        if to.send(seen).await.is_err() || is_end {
            return;
        }
    }
}

/// What the leader says, and what this hub had read before it was asked: meanwhile it may read more than what is answered.
async fn ask(shared: &Shared, look: impl Future<Output = Result<Look, async_nats::Error>>) -> (Answer, u64) {
    let read = shared.read.load(Ordering::Relaxed);
    let answer = match timeout(ASK_WITHIN, look).await {
        Ok(Ok(look)) => Answer::Look(look),
        Ok(Err(error)) if Log::is_gone(&error) => Answer::Gone,
        Ok(Err(_)) | Err(_) => Answer::None,
    };
    (answer, read)
}

/// What came of a question.
#[derive(Debug)]
enum Answer {
    Look(Look),
    /// There is no such stream.
    Gone,
    None,
}

/// What it means.
#[derive(Debug, PartialEq, Eq)]
enum Verdict {
    Led,
    Lost,
    End(String),
    /// The log lacks what was read: it must have another epoch before anybody appends, and this hub ends.
    BeginAnew(String),
}

/// What was answered of late.
#[derive(Debug)]
struct Judge {
    epoch: Epoch,
    /// When the stream was made, as [`Look::made`].
    made: i128,
    /// How many answers in a row say that the log lacks what was read, or is gone.
    short: u32,
}

impl Judge {
    const fn new(epoch: Epoch, made: i128) -> Self {
        Self { epoch, made, short: 0 }
    }

    /// `read`: the last message that was read when the question was asked.
    fn judge(&mut self, answer: &Answer, read: u64) -> Verdict {
        let is_short = match answer {
            Answer::None => return Verdict::Lost, // neither one more nor the end of the row
            Answer::Gone => true,
            Answer::Look(look) if look.epoch != Some(self.epoch) => {
                let found = look.epoch.map_or_else(|| "none".to_owned(), |epoch| epoch.to_string());
                return Verdict::End(format!(
                    "the stream is another log: its epoch is {found}, and was {}",
                    self.epoch
                ));
            }
            // Somebody has removed it and made it again just so. It may soon be as long as it was, with other messages.
            Answer::Look(look) if look.made != self.made => {
                return Verdict::BeginAnew("the stream was removed and made again".to_owned());
            }
            Answer::Look(look) => look.last < read,
        };
        if !is_short {
            self.short = 0;
            let led = matches!(answer, Answer::Look(look) if look.has_majority());
            return if led { Verdict::Led } else { Verdict::Lost };
        }
        self.short += 1;
        match answer {
            _ if self.short < ANSWERS => Verdict::Lost,
            Answer::Look(look) => Verdict::BeginAnew(format!(
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
        Answer::Look(Look { epoch, last, heard: Some(Duration::ZERO), ..Look::default() })
    }

    /// Else a log that grows all the time would seem to lack what was read of it.
    #[tokio::test]
    async fn what_is_read_while_the_leader_is_asked_does_not_count() {
        let shared = Shared::default();
        shared.read.store(5, Ordering::Relaxed);
        let look = async {
            shared.read.store(9, Ordering::Relaxed);
            Ok(Look { last: 7, ..Look::default() })
        };
        let (answer, read) = ask(&shared, look).await;
        assert!(matches!(answer, Answer::Look(Look { last: 7, .. })) && read == 5, "{answer:?}, {read}");
    }

    #[test]
    fn another_epoch_ends_a_hub_at_once() {
        let mut judge = Judge::new(Epoch::with_holes(1 << 24), 0);
        assert_eq!(judge.judge(&answer(1, 5), 5), Verdict::Led);
        assert!(matches!(judge.judge(&answer(2, 5), 5), Verdict::End(why) if why.contains("another log")));
        let none = Answer::Look(Look { last: 9, ..Look::default() });
        assert!(matches!(judge.judge(&none, 5), Verdict::End(_)));
    }

    #[test]
    fn a_stream_that_was_made_again_with_the_same_epoch_gets_another_one_at_once() {
        let mut judge = Judge::new(Epoch::with_holes(1 << 24), 0);
        let epoch = Some(Epoch::with_holes(1 << 24));
        let again =
            Answer::Look(Look { epoch, made: 1, last: 9, heard: Some(Duration::ZERO), ..Look::default() });
        assert!(matches!(judge.judge(&again, 5), Verdict::BeginAnew(why) if why.contains("made again")));
    }

    #[test]
    fn a_log_that_lacks_what_was_read_gets_another_epoch_after_five_answers_in_a_row() {
        let mut judge = Judge::new(Epoch::with_holes(1 << 24), 0);
        for _ in 0..4 {
            assert_eq!(judge.judge(&answer(1, 4), 5), Verdict::Lost);
        }
        assert_eq!(judge.judge(&answer(1, 5), 5), Verdict::Led, "a leader that was cut off");
        for _ in 0..4 {
            assert_eq!(judge.judge(&answer(1, 4), 5), Verdict::Lost);
            assert_eq!(judge.judge(&Answer::None, 5), Verdict::Lost, "silence says nothing");
        }
        let verdict = judge.judge(&answer(1, 4), 5);
        assert!(matches!(verdict, Verdict::BeginAnew(why) if why.contains("message 4, and 5 was read")));
    }

    #[test]
    fn a_stream_that_is_removed_ends_a_hub_after_five_answers() {
        let mut judge = Judge::new(Epoch::with_holes(1 << 24), 0);
        let verdicts: Vec<_> = (0..5).map(|_| judge.judge(&Answer::Gone, 0)).collect();
        assert_eq!(verdicts[..4], [Verdict::Lost, Verdict::Lost, Verdict::Lost, Verdict::Lost]);
        assert_eq!(verdicts[4], Verdict::End("the stream was removed".to_owned()));
    }

    #[test]
    fn a_leader_without_a_majority_leads_nobody() {
        let mut judge = Judge::new(Epoch::with_holes(1 << 24), 0);
        let epoch = Some(Epoch::with_holes(1 << 24));
        let alone = Answer::Look(Look { epoch, last: 5, heard: None, ..Look::default() });
        assert_eq!(judge.judge(&alone, 5), Verdict::Lost);
    }
}
