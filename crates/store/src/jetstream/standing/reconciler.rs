//! Looks after the bucket as a whole: whether it is still the one that was read, and what in it has expired.

use std::collections::VecDeque;
use std::time::Duration;

use tokio::time::{Instant, MissedTickBehavior, interval, sleep};

use super::reading::{ReadValues, read_all};
use super::{Contents, Keeper};
use crate::jetstream::{Notice, Options};

/// How often it looks.
const LOOK_EVERY: Duration = Duration::from_secs(5);

/// When the bucket does not answer as it should it looks sooner, but not more often than this.
const LOOK_AGAIN: Duration = Duration::from_secs(1);

/// A bucket that has fewer values than it should is read again so often.
const READ_AGAIN: Duration = Duration::from_secs(60);

/// What has expired is deleted so much later: clocks may differ.
const EXPIRED_FOR_MS: u64 = 2_000;

/// As many values are deleted at a time.
const DELETED_AT_ONCE: usize = 256;

/// How long it waits before it reads anew.
const PAUSE: Duration = Duration::from_millis(100);

pub(super) async fn run(keeper: &Keeper, found: Contents, options: &Options) {
    let mut asked = keeper.asked.subscribe();
    // What was asked for before this task began.
    if *asked.borrow() > *keeper.done.borrow() {
        asked.mark_changed();
    }
    let mut ticks = interval(LOOK_EVERY);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let now = Instant::now();
    let mut reconciler =
        Reconciler { keeper, options, made: found.made, looked: now, read: now, over: VecDeque::new() };
    loop {
        tokio::select! {
            biased;
            Ok(()) = asked.changed() => {
                let upto = *asked.borrow_and_update();
                while let Err(why) = reconciler.read_behind_a_hole().await {
                    options.notice(&Notice::Trouble(format!("the standing records are read again: {why}")));
                    let _is_the_same = reconciler.look().await; // somebody may have removed it
                    sleep(PAUSE).await;
                }
                keeper.done.send_replace(upto);
            }
            _ = ticks.tick() => {
                if reconciler.look().await {
                    reconciler.delete().await;
                }
            }
            () = keeper.doubted.notified() => {
                if reconciler.looked.elapsed() >= LOOK_AGAIN {
                    let _is_the_same = reconciler.look().await;
                }
            }
        }
    }
}

struct Reconciler<'a> {
    keeper: &'a Keeper,
    options: &'a Options,
    /// When the bucket was made.
    made: i128,
    looked: Instant,
    read: Instant,
    /// Revisions that may be deleted. Bounded by how many values there are.
    over: VecDeque<u64>,
}

impl Reconciler<'_> {
    /// Whether it is the bucket that was read.
    async fn look(&mut self) -> bool {
        self.looked = Instant::now();
        let now_unix_ms = self.keeper.ambient.unix_ms().saturating_sub(EXPIRED_FOR_MS);
        let (over, expected) = {
            let mut records = self.keeper.records();
            (records.let_go(now_unix_ms), records.values())
        };
        self.over.extend(over);
        let is_settled = {
            let to_check = self.keeper.to_check();
            to_check.young.is_empty() && to_check.old.is_empty()
        };
        let contents = match self.keeper.bucket.find_or_make().await {
            Ok(contents) => contents,
            Err(error) => {
                let source = std::error::Error::source(&error).map_or_else(String::new, ToString::to_string);
                let what = format!("the bucket of the standing records: {error} {source}");
                self.options.notice(&Notice::Trouble(what));
                return false;
            }
        };
        let is_another = contents.made != self.made;
        let has_lost = is_settled && contents.values < expected as u64 && self.read.elapsed() >= READ_AGAIN;
        if !is_another && !has_lost {
            return true;
        }
        if is_another {
            self.over.clear(); // there these revisions are other values
        }
        let what = "the bucket of the standing records was removed, or something was taken out of it: they are written anew";
        self.options.notice(&Notice::Trouble(what.to_owned()));
        if self.read_anew().await.is_ok() {
            self.made = contents.made;
        }
        false
    }

    /// Reads all of it. What it lacks is written soon.
    async fn read_anew(&mut self) -> Result<(), String> {
        let ReadValues { values, .. } = self.read_all().await?;
        let lacking = self.keeper.records().read_anew(values, self.keeper.ambient.unix_ms());
        self.keeper.to_check().old.extend(lacking);
        Ok(())
    }

    /// As [`Reconciler::read_anew`], because messages of the log are lost: what is gone from the same bucket has ended in one of them.
    async fn read_behind_a_hole(&mut self) -> Result<(), String> {
        let ReadValues { values, unreadable } = self.read_all().await?;
        // Asked after it was read: one that was made meanwhile lacks what nobody has ended.
        let contents = self.keeper.bucket.find_or_make().await.map_err(|error| error.to_string())?;
        if contents.made != self.made {
            return Err("it was removed and made again".to_owned());
        }
        let now_unix_ms = self.keeper.ambient.unix_ms();
        let lacking = self.keeper.records().read_behind_a_hole(values, &unreadable, now_unix_ms);
        self.keeper.to_check().old.extend(lacking);
        Ok(())
    }

    async fn read_all(&mut self) -> Result<ReadValues, String> {
        let read = read_all(&self.keeper.link, &self.keeper.bucket, self.options).await?;
        self.read = Instant::now();
        Ok(read)
    }

    async fn delete(&mut self) {
        for _ in 0..DELETED_AT_ONCE {
            let Some(revision) = self.over.front().copied() else { return };
            if let Err(error) = self.keeper.bucket.delete(revision).await {
                let what = format!("an expired standing record cannot be deleted: {error}");
                return self.options.notice(&Notice::Trouble(what));
            }
            self.over.pop_front();
        }
    }
}
