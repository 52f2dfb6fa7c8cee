//! The standing records of several hubs on a real broker: a bucket beside the log, and two tasks that keep it.
//!
//! What holds is decided in [`standing`](crate::nats::standing). The pump tells what it has read before it hands that on; whoever
//! published it is answered once the bucket has it too. Some seconds later every hub looks up there what it has read, and writes it if
//! it is not there: its own hub may have died in between.
//!
//! | task | what it does |
//! |---|---|
//! | `writer` | writes what this hub's publishers wait for, and looks up what was read |
//! | `reconciler` | looks whether the bucket is still the one that was read; reads all of it again if not, or when messages of the log were lost; deletes what has expired |

mod reading;
mod reconciler;
mod writer;

use std::collections::BTreeSet;
use std::iter::successors;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use galaxy_push_core::ambient::Ambient;
use galaxy_push_core::cursor::{Cursor, Epoch};
use tokio::sync::{Notify, Semaphore, mpsc, oneshot, watch};
use tokio::time::Instant;

use super::Options;
use super::bucket::{Bucket, Contents};
use super::connect::Link;
use crate::nats::Record;
use crate::nats::standing::{Records, Ticket, Value};
use crate::standing::Matter;
use crate::{Appended, Batch, Error, Refused};

pub(super) use reading::read_at_start;

/// Requests to the bucket that are not answered, at most. The connection is the log's as well.
const REQUESTS_MAX: usize = 32;

/// More answers than may be waited for: each has a record at least, and these are bounded before.
const JOBS_MAX: usize = 8_192;

/// Whoever published waits for this.
pub(super) type Reply = oneshot::Sender<Result<Vec<Appended>, Error>>;

/// The records, by the log and by the bucket.
#[derive(Debug)]
pub(super) struct Keeper {
    bucket: Bucket,
    link: Link,
    ambient: Ambient,
    records: Mutex<Records>,
    to_check: Mutex<ToCheck>,
    jobs: mpsc::Sender<Job>,
    requests: Semaphore,
    /// When the bucket has taken anything last.
    written: Mutex<Instant>,
    /// Rings when the bucket may be gone.
    doubted: Notify,
    /// How often it was asked for that all of the bucket is read again, and how often that was done.
    asked: watch::Sender<u64>,
    done: watch::Sender<u64>,
}

/// What is to be looked up in the bucket. Bounded by how many matters there are.
#[derive(Debug, Default)]
struct ToCheck {
    /// Read since the last round: its own hub is about to write it.
    young: BTreeSet<Matter>,
    old: BTreeSet<Matter>,
}

/// Records that are on their way to the log.
#[derive(Debug)]
pub(super) struct Asked {
    ticket: Ticket,
    matters: Vec<Matter>,
}

/// Records that were read back, and must stand in the bucket before their publisher is told so.
#[derive(Debug)]
struct Job {
    ticket: Ticket,
    /// Each matter, and up to where it must stand there.
    matters: Vec<(Matter, Cursor)>,
    answer: Vec<Appended>,
    reply: Reply,
    since: Instant,
}

impl Keeper {
    /// Begins with what was read of the bucket at a start. `end`: where the log ended after that.
    pub(super) fn start(
        link: Link,
        bucket: Bucket,
        options: &Options,
        end: Cursor,
        values: Vec<(u64, Value)>,
    ) -> (Arc<Self>, Jobs) {
        let mut records = Records::new(end.epoch, options.records_max);
        // What lies behind the end of the log was said in one that was put back since: as if by another log.
        let values = values.into_iter().map(|(revision, value)| match value.at.follows(end) {
            true => (revision, Value { at: Cursor { epoch: Epoch(0), ..value.at }, ..value }),
            false => (revision, value),
        });
        let lacking = records.read_anew(values.collect(), options.ambient.unix_ms());
        let (jobs, taken) = mpsc::channel(JOBS_MAX);
        let keeper = Self {
            bucket,
            link,
            ambient: options.ambient.clone(),
            records: Mutex::new(records),
            to_check: Mutex::new(ToCheck { young: lacking.into_iter().collect(), ..ToCheck::default() }),
            jobs,
            requests: Semaphore::new(REQUESTS_MAX),
            written: Mutex::new(Instant::now()),
            doubted: Notify::new(),
            asked: watch::Sender::new(0),
            done: watch::Sender::new(0),
        };
        (Arc::new(keeper), Jobs(taken))
    }

    /// The records as they hold here.
    pub(super) fn records(&self) -> MutexGuard<'_, Records> {
        self.records.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes the room for the records of a batch that is to be appended; those of one that was published before have theirs.
    ///
    /// # Errors
    ///
    /// There is none.
    pub(super) fn begin(&self, batch: &Batch, is_known: bool) -> Result<Asked, Refused> {
        let ticket = self.records().begin(batch, is_known)?;
        let changes = batch.items.iter().filter_map(|item| item.change.as_ref());
        Ok(Asked { ticket, matters: changes.map(|change| change.matter()).collect() })
    }

    /// Takes records as they were read in the log.
    pub(super) fn read(&self, read: &[Record]) {
        let now_unix_ms = self.ambient.unix_ms();
        let mut to_check = self.to_check();
        let mut records = self.records();
        for record in read {
            records.apply(record, now_unix_ms);
            to_check.young.insert(record.change.matter());
        }
    }

    /// What became of records in the log; if they are there, whoever published them is told once they are in the bucket.
    pub(super) fn answer(&self, asked: Asked, reply: Reply, answer: Result<Vec<Appended>, Error>) {
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
        // They lie one behind another; of what was published before only the last place is known.
        let places = matters.into_iter().rev().zip(successors(last, |at| Some(at.before())));
        let job = Job { ticket, matters: places.collect(), answer: appended, reply, since: Instant::now() };
        if let Err(error) = self.jobs.try_send(job) {
            self.finish(error.into_inner(), Err("too much waits for it".to_owned()));
        }
    }

    /// Has all of the bucket read again: messages of the log are lost, and records may have been among them. Returns what
    /// [`Keeper::read_upto`] says once that is done.
    pub(super) fn read_again(&self) -> u64 {
        self.asked.send_modify(|asked| *asked += 1);
        *self.asked.borrow()
    }

    /// How often all of the bucket was read again. Rings when it is.
    pub(super) fn read_upto(&self) -> watch::Receiver<u64> {
        self.done.subscribe()
    }

    fn finish(&self, job: Job, stood: Result<(), String>) {
        self.records().answered(&job.ticket);
        let unknown = |why| format!("the records are in the log, and their bucket has not taken them: {why}");
        let answer = stood.map(|()| job.answer).map_err(|why| Error::Unknown(unknown(why)));
        let _ = job.reply.send(answer); // whoever asked may be gone
    }

    fn to_check(&self) -> MutexGuard<'_, ToCheck> {
        self.to_check.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What the writer takes.
#[derive(Debug)]
pub(super) struct Jobs(mpsc::Receiver<Job>);

/// The two tasks, for as long as they are polled.
pub(super) async fn run(keeper: Arc<Keeper>, jobs: Jobs, found: Contents, options: Options) {
    tokio::join!(writer::run(&keeper, jobs), reconciler::run(&keeper, found, &options));
}
