//! Writes to the bucket what publishers wait for, and looks up there what was read in the log.

use std::error::Error;
use std::sync::PoisonError;
use std::time::Duration;

use futures_util::future::FutureExt as _;
use futures_util::stream::{self, FuturesUnordered, StreamExt as _, TryStreamExt as _};
use galaxy_push_core::cursor::Cursor;
use tokio::time::{Instant, MissedTickBehavior, interval_at, sleep, timeout};

use super::{Job, Jobs, Keeper};
use crate::nats::standing::{Step, Value, key};
use crate::nats::{ANSWER_WITHIN, Unreadable};
use crate::standing::Matter;

/// Publishers that are served at a time, and the matters of each.
const JOBS_AT_ONCE: usize = 16;
const MATTERS_AT_ONCE: usize = 8;

/// How often it is looked up whether the bucket has what was read; each hub some milliseconds more, so that one of them comes first.
const CHECK_EVERY: Duration = Duration::from_secs(5);
const CHECK_JITTER_MS: u64 = 2_000;

/// How long it waits before it asks a bucket again that has not answered as it should.
const PAUSE: Duration = Duration::from_millis(100);

pub(super) async fn run(keeper: &Keeper, Jobs(mut jobs): Jobs) {
    let jitter = Duration::from_millis(keeper.ambient.random() % CHECK_JITTER_MS);
    let mut ticks = interval_at(Instant::now() + CHECK_EVERY, CHECK_EVERY + jitter);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let (mut running, mut checking) = (FuturesUnordered::new(), FuturesUnordered::new());
    loop {
        tokio::select! {
            biased;
            Some(()) = running.next(), if !running.is_empty() => {}
            Some(()) = checking.next(), if !checking.is_empty() => {}
            job = jobs.recv(), if running.len() < JOBS_AT_ONCE => match job {
                Some(job) => running.push(keeper.serve(job).boxed()),
                None => return,
            },
            _ = ticks.tick(), if checking.is_empty() => checking.push(keeper.check().boxed()),
        }
    }
}

impl Keeper {
    async fn serve(&self, job: Job) {
        let last_written = *self.written.lock().unwrap_or_else(PoisonError::into_inner);
        let stood = if job.since.max(last_written).elapsed() >= ANSWER_WITHIN {
            Err("it takes nothing".to_owned()) // nor would it while this one waited once more
        } else {
            // What was published before may have been written by another hub.
            let look = job.answer.iter().any(|each| each.duplicate);
            let matters = stream::iter(&job.matters).map(Ok);
            matters
                .try_for_each_concurrent(MATTERS_AT_ONCE, |(matter, upto)| self.stand(matter, *upto, look))
                .await
        };
        self.finish(job, stood);
    }

    /// Looks up what was read in the log before the last round.
    async fn check(&self) {
        let matters = {
            let mut to_check = self.to_check();
            let young = std::mem::take(&mut to_check.young);
            to_check.old.extend(young);
            to_check.old.clone()
        };
        let each = stream::iter(matters).for_each_concurrent(MATTERS_AT_ONCE, |matter| async move {
            let upto = self.records().at(&matter);
            let stood = match upto {
                Some(upto) => self.stand(&matter, upto, true).await,
                None => Ok(()), // it is over
            };
            if stood.is_ok() {
                self.to_check().old.remove(&matter);
            }
        });
        each.await;
    }

    /// Sees to it that what the log says of a matter up to here stands in the bucket. `look`: whoever may have written it, look first.
    ///
    /// # Errors
    ///
    /// Why nobody knows whether it does, when the time is over.
    async fn stand(&self, matter: &Matter, upto: Cursor, mut look: bool) -> Result<(), String> {
        let mut why = "it does not answer".to_owned();
        let tries = async {
            loop {
                match self.try_once(matter, upto, &mut look).await {
                    Ok(true) => return,
                    Ok(false) => {}
                    Err(error) => {
                        (why, look) = (whole(&*error), true);
                        self.doubted.notify_one();
                        sleep(PAUSE).await;
                    }
                }
            }
        };
        timeout(ANSWER_WITHIN, tries).await.map_err(|_| why)
    }

    /// Whether it stands there now.
    async fn try_once(
        &self,
        matter: &Matter,
        upto: Cursor,
        look: &mut bool,
    ) -> Result<bool, async_nats::Error> {
        let _permit = self.requests.acquire().await?;
        if std::mem::take(look) {
            self.look_up(matter).await?;
        }
        let step = self.records().step(matter, upto);
        let Step::Write { revision, value } = step else { return Ok(true) };
        match self.bucket.swap(&key(matter), revision, value.write()).await? {
            Some(revision) => {
                self.records().wrote(matter, revision, value.at);
                *self.written.lock().unwrap_or_else(PoisonError::into_inner) = Instant::now();
            }
            None => *look = true, // somebody else has written
        }
        Ok(false)
    }

    async fn look_up(&self, matter: &Matter) -> Result<(), async_nats::Error> {
        let under = key(matter);
        let found = self.bucket.read(&under).await?;
        let Some(found) = found else {
            self.records().missing(matter, 0);
            return Ok(());
        };
        match Value::read(&under, &found.bytes) {
            Ok(value) if value.matter == *matter => {
                self.records().found(found.revision, value, self.ambient.unix_ms());
            }
            Err(error @ Unreadable::Version(_)) => return Err(error.into()),
            Ok(_) | Err(_) => self.records().missing(matter, found.revision),
        }
        Ok(())
    }
}

/// What an error says, and what it comes from.
fn whole(error: &dyn Error) -> String {
    let causes = std::iter::successors(Some(error), |error| (*error).source());
    causes.map(ToString::to_string).collect::<Vec<_>>().join(": ")
}
