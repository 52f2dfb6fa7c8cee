//! `publish`: one event from flags, or many from CloudEvents JSON lines.
//!
//! Lines are sent in batches of at most 1,000 events and well below 4 MiB, one after another, so that their order in
//! the log is the order of the file. A line that is no event, or that the hub refuses, stops the run: everything before
//! it is acknowledged, nothing after it is sent.

mod acked;
mod checkpoint;
mod ending;
mod lines;
mod progress;
mod sender;
mod single;

use std::io::{IsTerminal as _, Write as _};
use std::pin::pin;

use anyhow::{Context as _, anyhow, bail};
use galaxy_push_client::Tracing;
use galaxy_push_proto::{cloudevents, v1, validate};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::print_ack;
use crate::Usage;
use crate::args::PublishArgs;
use crate::peer::Peer;
use acked::{Acked, other_log};
use checkpoint::{Checkpoint, Position};
use ending::{Ended, Signals};
use lines::{Batch, Lines, Stop};
use progress::Progress;
use sender::{NotSent, Sender};

/// Below the hub's limit of 4 MiB by more than any framing could add.
const BATCH_BYTES: usize = 3 << 20;

pub(crate) async fn run(args: PublishArgs, tracing: Tracing) -> anyhow::Result<()> {
    let mut sender = Sender::new(&args.hub, Peer::of(&args.peer, &args.hub)?, args.timeout, tracing)?;
    // The flags of one event stand or fall together; clap sees to that.
    if args.event.r#type.is_some() {
        let event = single::event(args.data.as_deref(), &args.event)?;
        return one(&mut sender, event).await;
    }
    if args.file.is_none() && std::io::stdin().is_terminal() {
        bail!(Usage(
            "nothing to publish: give --to, --type and DATA, or --file FILE, or lines on stdin; see `galaxy-push \
             publish --help`"
                .into()
        ));
    }
    let mut checkpoint = args.checkpoint.as_deref().map(Checkpoint::open).transpose()?;
    let lines = Lines::open(args.file.as_deref(), checkpoint.as_ref())?;
    // One that cannot be written would be noticed only when there is something to write.
    checkpoint.as_mut().map_or(Ok(()), Checkpoint::try_out)?;
    let mut run = Run {
        progress: Progress::start(lines.bytes_total()),
        sender,
        checkpoint,
        acked: Acked::default(),
        under_way: 0,
        stop: CancellationToken::new(),
    };
    let outcome = run.until_told(lines).await;
    run.progress.finish();
    let _ = std::io::stderr().write_all(run.acked.summary().as_bytes());
    outcome.map_err(|error| {
        let ended = error.downcast_ref::<Ended>();
        let first = if ended.is_some() { "" } else { "once mended, " };
        let again = match (&run.checkpoint, ended) {
            (Some(_), Some(Ended { unknown: unknown @ 1.., .. })) => format!(
                "the same command continues after what was acknowledged: go on within 2 minutes, or these {unknown} may be \
                 published twice"
            ),
            (Some(_), _) => "the same command continues after what was acknowledged".to_owned(),
            (None, _) => "the same command can be repeated: for two minutes, what was acknowledged is recognised by its id"
                .to_owned(),
        };
        anyhow!("{error:#}\n\n  tip: {first}{again}")
    })
}

async fn one(sender: &mut Sender, event: v1::Event) -> anyhow::Result<()> {
    let published = sender.send(vec![event], &Progress::none()).await.map_err(|error| match error {
        NotSent::Refused { what, .. } => anyhow!("the hub refused the event: {what}"),
        NotSent::Failed(error) => error,
    })?;
    let [published] = &published[..] else { bail!("the hub answered without a result") };
    let mut line = serde_json::json!({
        "id": published.id, "cursor": published.cursor, "duplicate": published.duplicate
    });
    if published.other_log {
        line["otherLog"] = true.into();
        let _ = writeln!(std::io::stderr(), "{}", other_log("the event"));
    }
    print_ack(&line.to_string(), "the event")
}

/// How far a run got.
enum Reached {
    TheEnd,
    /// It was told to take up nothing more.
    AStop,
}

/// A run over many lines.
struct Run {
    sender: Sender,
    checkpoint: Option<Checkpoint>,
    progress: Progress,
    acked: Acked,
    /// How many events were sent and are not answered.
    under_way: usize,
    /// Take up nothing more.
    stop: CancellationToken,
}

impl Run {
    /// Runs to the end, or until a signal. What is under way then is waited for, for a moment.
    async fn until_told(&mut self, lines: Lines) -> anyhow::Result<()> {
        let mut signals = Signals::listen()?;
        let (stop, progress) = (self.stop.clone(), self.progress.clone());
        let (by, finished) = {
            let mut all = pin!(self.all(lines));
            tokio::select! {
                biased;
                outcome = all.as_mut() => return outcome.map(drop),
                by = signals.next() => {
                    stop.cancel();
                    (by, signals.finish(by, &progress, all).await)
                }
            }
        };
        match finished {
            Some(Ok(Reached::TheEnd)) => Ok(()),
            Some(Ok(Reached::AStop)) => bail!(Ended { by, unknown: 0 }),
            Some(Err(error)) => Err(error),
            None => bail!(Ended { by, unknown: self.under_way }),
        }
    }

    async fn all(&mut self, lines: Lines) -> anyhow::Result<Reached> {
        let name = lines.name().to_owned();
        let mut batches = read(lines);
        loop {
            let next = tokio::select! {
                biased;
                () = self.stop.cancelled() => return Ok(Reached::AStop),
                next = batches.recv() => next,
            };
            let Some((batch, stop)) = next else { bail!("{name}: reading it broke off") };
            let bytes_read = batch.last.bytes;
            self.batch(batch, &name).await?;
            match stop {
                None => self.progress.advance(self.acked.total, bytes_read),
                Some(Stop::End) => return Ok(Reached::TheEnd),
                Some(Stop::Bad(error)) => return Err(error),
            }
        }
    }

    async fn batch(&mut self, batch: Batch, name: &str) -> anyhow::Result<()> {
        if !batch.events.is_empty() {
            // The hub takes a batch as a whole or not at all, so what comes before an event it refuses is sent again.
            let before = batch.events.clone();
            match self.send(batch.events).await {
                Ok(()) => {}
                Err(NotSent::Refused { index, what }) => {
                    if index > 0 {
                        let sent = self.send(before[..index].to_vec()).await;
                        sent.map_err(|error| error.on_lines(name, batch.first, batch.last.lines))?;
                        self.save(&batch.ends[index - 1])?;
                    }
                    bail!("{name}: line {}, refused by the hub: {what}", batch.ends[index].lines);
                }
                Err(failed) => return Err(failed.on_lines(name, batch.first, batch.last.lines)),
            }
        }
        self.save(&batch.last)
    }

    async fn send(&mut self, events: Vec<v1::Event>) -> Result<(), NotSent> {
        self.under_way = events.len();
        let published = self.sender.send(events, &self.progress).await?;
        self.under_way = 0;
        self.acked.add(&published);
        Ok(())
    }

    fn save(&mut self, reached: &Position) -> anyhow::Result<()> {
        self.checkpoint.as_mut().map_or(Ok(()), |checkpoint| checkpoint.save(reached))
    }
}

/// Reads batches in a thread of its own, one ahead: a pipe may bring nothing for hours, and a signal is heard all the same.
fn read(mut lines: Lines) -> mpsc::Receiver<(Batch, Option<Stop>)> {
    let (batches, read) = mpsc::channel(1);
    std::thread::spawn(move || {
        loop {
            let (batch, stop) = lines.next_batch(validate::EVENTS_MAX, BATCH_BYTES);
            let is_last = stop.is_some();
            if batches.blocking_send((batch, stop)).is_err() || is_last {
                return;
            }
        }
    });
    read
}

/// One line of a file as an event, checked as the hub will check it.
fn parse_line(line: &[u8], number: u64, name: &str) -> anyhow::Result<Option<v1::Event>> {
    let parse = || {
        let Some(mut event) = cloudevents::parse_line(line, number)? else { return Ok(None) };
        validate::fill_in(&mut event, galaxy_push_listener::ambient().unix_ms());
        // The hub may allow less, and says so itself; everything else is the same everywhere.
        validate::event(&event, validate::DATA_BYTES_MAX).map_err(|invalid| invalid.on_line(number))?;
        Ok::<_, validate::Invalid>(Some(event))
    };
    parse().with_context(|| name.to_owned())
}
