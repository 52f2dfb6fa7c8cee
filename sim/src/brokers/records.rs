//! The standing records of one simulated hub, and how it sees to it that they are in their bucket.
//!
//! What holds and what is to be written the store's own code says; here is only when it is asked.

use std::collections::BTreeSet;
use std::iter::successors;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use galaxy_push_core::ambient::Ambient;
use galaxy_push_core::cursor::{Cursor, Epoch};
use galaxy_push_store::nats::standing::{Records, Step, Ticket, Value, key};
use galaxy_push_store::nats::{ANSWER_WITHIN, Record};
use galaxy_push_store::standing::{Matter, RECORDS_MAX};
use galaxy_push_store::{Appended, Batch, Error, Refused};
use tokio::sync::{oneshot, watch};
use tokio::time::{Instant, sleep, timeout};

use super::At;
use super::cluster::Said;
use super::stream::{Entry, Which};

/// How long the brokers may take.
const WITHIN: Duration = Duration::from_secs(2);

/// How long it waits before it asks again.
const PAUSE: Duration = Duration::from_millis(100);

/// How often it is looked up whether the bucket has what was read.
const CHECK_EVERY: Duration = Duration::from_secs(5);

/// What has expired is deleted so much later.
const EXPIRED_FOR_MS: u64 = 2_000;

/// Whoever published waits for this.
pub(super) type Reply = oneshot::Sender<Result<Vec<Appended>, Error>>;

pub(super) struct Keeper {
    at: At,
    ambient: Ambient,
    records: Mutex<Records>,
    to_check: Mutex<(BTreeSet<Matter>, BTreeSet<Matter>)>,
    asked: watch::Sender<u64>,
    done: watch::Sender<u64>,
}

/// Records that are on their way to the log.
pub(super) struct Asked {
    ticket: Ticket,
    matters: Vec<Matter>,
}

impl Keeper {
    /// Begins with what is in the bucket. `end`: where the log ended after that was read.
    pub(super) fn start(at: At, ambient: Ambient, values: &[Entry], end: Cursor) -> Arc<Self> {
        let mut records = Records::new(end.epoch, RECORDS_MAX);
        // As the store does with values from behind the end.
        let values = read_values(values).into_iter().map(|(revision, value)| match value.at.follows(end) {
            true => (revision, Value { at: Cursor { epoch: Epoch(0), ..value.at }, ..value }),
            false => (revision, value),
        });
        let lacking = records.read_anew(values.collect(), ambient.unix_ms());
        Arc::new(Self {
            at,
            ambient,
            records: Mutex::new(records),
            to_check: Mutex::new((lacking.into_iter().collect(), BTreeSet::new())),
            asked: watch::Sender::new(0),
            done: watch::Sender::new(0),
        })
    }

    pub(super) fn records(&self) -> MutexGuard<'_, Records> {
        self.records.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn begin(&self, batch: &Batch, is_known: bool) -> Result<Asked, Refused> {
        let ticket = self.records().begin(batch, is_known)?;
        let changes = batch.items.iter().filter_map(|item| item.change.as_ref());
        Ok(Asked { ticket, matters: changes.map(|change| change.matter()).collect() })
    }

    pub(super) fn read(&self, read: &[Record]) {
        let now_unix_ms = self.ambient.unix_ms();
        for record in read {
            self.records().apply(record, now_unix_ms);
            self.to_check().0.insert(record.change.matter());
        }
    }

    pub(super) fn read_again(&self) -> u64 {
        self.asked.send_modify(|asked| *asked += 1);
        *self.asked.borrow()
    }

    /// How often all of the bucket was read again.
    pub(super) fn read_upto(&self) -> u64 {
        *self.done.borrow()
    }

    /// Answers whoever published records, once they are in the bucket too.
    pub(super) async fn answer(
        self: Arc<Self>,
        asked: Asked,
        reply: Reply,
        answer: Result<Vec<Appended>, Error>,
    ) {
        let Asked { ticket, matters } = asked;
        let appended = match answer {
            Ok(appended) => appended,
            Err(error) => {
                self.records().answered(&ticket);
                let _ = reply.send(Err(error)); // whoever asked may be gone
                return;
            }
        };
        self.records().read_back(&ticket);
        let last = appended.last().and_then(|last| last.cursor);
        let places = matters.into_iter().rev().zip(successors(last, |at| Some(at.before())));
        let look = appended.iter().any(|each| each.duplicate);
        let mut stood = Ok(());
        for (matter, upto) in places {
            stood = stood.and(self.stand(&matter, upto, look).await);
        }
        self.records().answered(&ticket);
        let unknown =
            |()| Error::Unknown("the records are in the log, and their bucket has not taken them".into());
        let _ = reply.send(stood.map(|()| appended).map_err(unknown)); // whoever asked may be gone
    }

    /// Looks after the bucket for as long as it is polled.
    pub(super) async fn run(self: Arc<Self>) {
        let mut asked = self.asked.subscribe();
        loop {
            tokio::select! {
                biased;
                Ok(()) = asked.changed() => {
                    let upto = *asked.borrow_and_update();
                    loop {
                        sleep(self.at.latency()).await;
                        if let Some(values) = self.at.read_all(Which::Records) {
                            let values = read_values(&values);
                            let (nothing, now_unix_ms) = (BTreeSet::new(), self.ambient.unix_ms());
                            let lacking = self.records().read_behind_a_hole(values, &nothing, now_unix_ms);
                            self.to_check().1.extend(lacking);
                            break;
                        }
                        sleep(PAUSE).await;
                    }
                    self.done.send_replace(upto);
                }
                () = sleep(CHECK_EVERY) => self.check().await,
            }
        }
    }

    /// Looks up what was read in the log before the last round, and deletes what is over.
    async fn check(&self) {
        let matters = {
            let mut to_check = self.to_check();
            let young = std::mem::take(&mut to_check.0);
            to_check.1.extend(young);
            to_check.1.clone()
        };
        for matter in matters {
            let upto = self.records().at(&matter);
            let stood = match upto {
                Some(upto) => self.stand(&matter, upto, true).await,
                None => Ok(()), // it is over
            };
            if stood.is_ok() {
                self.to_check().1.remove(&matter);
            } else {
                break;
            }
        }
        let over = self.records().let_go(self.ambient.unix_ms().saturating_sub(EXPIRED_FOR_MS));
        over.into_iter().for_each(|revision| self.at.delete(revision));
    }

    /// Sees to it that what the log says of a matter up to here stands in the bucket.
    async fn stand(&self, matter: &Matter, upto: Cursor, mut look: bool) -> Result<(), ()> {
        let give_up = Instant::now() + ANSWER_WITHIN;
        while Instant::now() < give_up {
            match self.try_once(matter, upto, &mut look).await {
                Ok(true) => return Ok(()),
                Ok(false) => {}
                Err(()) => {
                    look = true;
                    sleep(PAUSE).await;
                }
            }
        }
        Err(())
    }

    async fn try_once(&self, matter: &Matter, upto: Cursor, look: &mut bool) -> Result<bool, ()> {
        if std::mem::take(look) {
            self.look_up(matter).await?;
        }
        let step = self.records().step(matter, upto);
        let Step::Write { revision, value } = step else { return Ok(true) };
        let at = value.at;
        let answer = self.at.write(Which::Records, &key(matter), revision, value.write());
        match timeout(WITHIN, answer).await {
            Ok(Ok(Said::Stored(revision))) => self.records().wrote(matter, revision, at),
            Ok(Ok(Said::Changed)) => *look = true, // somebody else has written
            _ => return Err(()),
        }
        Ok(false)
    }

    async fn look_up(&self, matter: &Matter) -> Result<(), ()> {
        sleep(self.at.latency()).await;
        let under = key(matter);
        match self.at.read(Which::Records, &under)? {
            None => self.records().missing(matter, 0),
            Some((revision, bytes)) => match Value::read(&under, &bytes) {
                Ok(value) if value.matter == *matter => {
                    self.records().found(revision, value, self.ambient.unix_ms());
                }
                _ => self.records().missing(matter, revision),
            },
        }
        Ok(())
    }

    fn to_check(&self) -> MutexGuard<'_, (BTreeSet<Matter>, BTreeSet<Matter>)> {
        self.to_check.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn read_values(entries: &[Entry]) -> Vec<(u64, Value)> {
    let values = entries.iter();
    values.filter_map(|entry| Some((entry.number, Value::read(&entry.key, &entry.payload).ok()?))).collect()
}
