//! `publish`: one event from flags, or many from CloudEvents JSON lines.
//!
//! Lines are sent in batches of at most 1,000 events and well below 4 MiB, one after another, so that their order in
//! the log is the order of the file. A line that is no event, or that the hub refuses, stops the run: everything before
//! it is acknowledged, nothing after it is sent.

mod checkpoint;
mod lines;
mod progress;
mod sender;
mod single;

use std::future::pending;
use std::io::{IsTerminal as _, Write as _};

use anyhow::{Context as _, anyhow, bail};
use galaxy_push_client::{Published, Tracing};
use galaxy_push_proto::{cloudevents, v1, validate};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc;

use super::print_ack;
use crate::Usage;
use crate::args::PublishArgs;
use crate::hangups;
use crate::peer::Peer;
use checkpoint::{Checkpoint, Position};
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
    let checkpoint = args.checkpoint.as_deref().map(Checkpoint::open).transpose()?;
    let lines = Lines::open(args.file.as_deref(), checkpoint.as_ref())?;
    // One that cannot be written would be noticed only when there is something to write.
    checkpoint.as_ref().map_or(Ok(()), Checkpoint::try_out)?;
    let mut run = Run {
        progress: Progress::start(lines.bytes_total()),
        sender,
        checkpoint,
        acked: 0,
        duplicates: 0,
        other_log: 0,
    };
    let outcome = tokio::select! {
        biased;
        outcome = run.all(lines) => outcome,
        signal = told_to_end() => Err(anyhow!(Ended(signal?))),
    };
    run.progress.finish();
    let _ = std::io::stderr().write_all(run.summary().as_bytes());
    let again = match run.checkpoint {
        Some(_) => "the same command continues after what was acknowledged",
        None => {
            "the same command can be repeated: for two minutes, what was acknowledged is recognised by its id"
        }
    };
    outcome.map_err(|error| {
        let first = if error.is::<Ended>() { "" } else { "once mended, " };
        anyhow!("{error:#}\n\n  tip: {first}{again}")
    })
}

/// Somebody ended the run.
#[derive(Debug, thiserror::Error)]
#[error("ended by {0}; whether the hub took what was under way is unknown")]
struct Ended(&'static str);

/// Waits for Ctrl-C, SIGTERM or, where that is not ignored, SIGHUP: its terminal is gone.
async fn told_to_end() -> std::io::Result<&'static str> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut hangup = if hangups::are_ignored() { None } else { Some(signal(SignalKind::hangup())?) };
    let hung_up = async {
        match &mut hangup {
            Some(hangup) => hangup.recv().await,
            None => pending().await,
        }
    };
    tokio::select! {
        biased;
        pressed = tokio::signal::ctrl_c() => pressed.map(|()| "Ctrl-C"),
        _ = terminate.recv() => Ok("SIGTERM"),
        _ = hung_up => Ok("SIGHUP"),
    }
}

/// What is said of events that were perhaps published twice.
fn other_log(what: &str) -> String {
    format!(
        "warning: {what} may be in two logs: an earlier try got no answer, and the hub that has answered now holds another \
         log, or it is not known which one the other held. Readers may be handed it twice"
    )
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

/// A run over many lines.
struct Run {
    sender: Sender,
    checkpoint: Option<Checkpoint>,
    progress: Progress,
    acked: u64,
    duplicates: u64,
    /// Those that may be in another log, too.
    other_log: u64,
}

impl Run {
    async fn all(&mut self, lines: Lines) -> anyhow::Result<()> {
        let name = lines.name().to_owned();
        let mut batches = read(lines);
        while let Some((batch, stop)) = batches.recv().await {
            let bytes_read = batch.last.bytes;
            self.batch(batch, &name).await?;
            match stop {
                None => self.progress.advance(self.acked, bytes_read),
                Some(Stop::End) => return Ok(()),
                Some(Stop::Bad(error)) => return Err(error),
            }
        }
        bail!("{name}: reading it broke off")
    }

    async fn batch(&mut self, batch: Batch, name: &str) -> anyhow::Result<()> {
        if !batch.events.is_empty() {
            // The hub takes a batch as a whole or not at all, so what comes before an event it refuses is sent again.
            let before = batch.events.clone();
            match self.sender.send(batch.events, &self.progress).await {
                Ok(published) => self.acknowledged(&published),
                Err(NotSent::Refused { index, what }) => {
                    if index > 0 {
                        let sent = self.sender.send(before[..index].to_vec(), &self.progress).await;
                        self.acknowledged(
                            &sent.map_err(|error| error.on_lines(name, batch.first, batch.last.lines))?,
                        );
                        self.save(&batch.ends[index - 1])?;
                    }
                    bail!("{name}: line {}, refused by the hub: {what}", batch.ends[index].lines);
                }
                Err(failed) => return Err(failed.on_lines(name, batch.first, batch.last.lines)),
            }
        }
        self.save(&batch.last)
    }

    fn acknowledged(&mut self, published: &[Published]) {
        self.acked += published.len() as u64;
        self.duplicates += published.iter().filter(|event| event.duplicate).count() as u64;
        self.other_log += published.iter().filter(|event| event.other_log).count() as u64;
    }

    fn summary(&self) -> String {
        let events = if self.acked == 1 { "event" } else { "events" };
        let mut summary = match self.duplicates {
            0 => format!("{} {events} acknowledged\n", self.acked),
            before => format!("{} {events} acknowledged, {before} published before\n", self.acked),
        };
        if self.other_log > 0 {
            summary += &other_log(&format!("{} of them", self.other_log));
            summary.push('\n');
        }
        summary
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
