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
use super::stream::Log;
use crate::nats::stream_view::{Answer, Judge, LastRead, StreamView, Verdict};

/// How often it asks.
const ASK_EVERY: Duration = Duration::from_secs(2);

/// How long the leader may take.
const ASK_WITHIN: Duration = Duration::from_millis(1_900);

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
        let (answer, last_read) = ask(&shared, |read| look(&log, read)).await;
        let seen = match judge.judge(&answer, last_read) {
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
async fn ask<L: Future<Output = Result<StreamView, async_nats::Error>>>(
    shared: &Shared,
    look: impl FnOnce(u64) -> L,
) -> (Answer, LastRead) {
    let last_read = shared.last_read();
    let answer = match timeout(ASK_WITHIN, look(last_read.number)).await {
        Ok(Ok(look)) => {
            shared.is_replicated.store(look.replicas > 1, Ordering::Relaxed);
            Answer::StreamView(look)
        }
        Ok(Err(error)) if Log::is_gone(&error) => Answer::Gone,
        Ok(Err(_)) | Err(_) => Answer::None,
    };
    (answer, last_read)
}

/// What the leader says of the stream, and of what lies under the number of this message.
async fn look(log: &Log, read: u64) -> Result<StreamView, async_nats::Error> {
    let look = log.look().await?;
    let stamp_unix_ms = match (look.first..=look.last).contains(&read) {
        true => log.stamp_of(read).await,
        false => None,
    };
    Ok(StreamView { stamp_unix_ms, ..look })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Else a log that grows all the time would seem to lack what was read of it.
    #[tokio::test]
    async fn what_is_read_while_the_leader_is_asked_does_not_count() {
        let shared = Shared::default();
        shared.read.store(5, Ordering::Relaxed);
        let look = async |_: u64| {
            shared.read.store(9, Ordering::Relaxed);
            Ok(StreamView { last: 7, ..StreamView::default() })
        };
        let (answer, LastRead { number: read, .. }) = ask(&shared, look).await;
        assert!(
            matches!(answer, Answer::StreamView(StreamView { last: 7, .. })) && read == 5,
            "{answer:?}, {read}"
        );
    }
}
