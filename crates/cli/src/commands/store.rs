//! `store`: looks at a log on the disk, for people and scripts. Nothing is changed, and a hub that runs is not disturbed.

mod dump;

use std::fmt::Write as _;
use std::io::Write as _;
use std::ops::ControlFlow;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use anyhow::{Context as _, anyhow, bail};
use galaxy_push_core::cursor::Cursor;
use galaxy_push_store::disk::inspect::{Inspection, View};
use galaxy_push_store::disk::{Damage, OnProgress};
use galaxy_push_store::{Committed, Sink};
use indicatif::{ProgressBar, ProgressStyle};
use serde_json::{Value, json};

use crate::NoInput;
use crate::args::StoreCommand;

pub(crate) fn run(command: &StoreCommand) -> anyhow::Result<()> {
    match command {
        StoreCommand::Check { dir, json } => check(dir, *json),
        StoreCommand::Dump(args) => dump::run(args),
    }
}

fn check(dir: &Path, as_json: bool) -> anyhow::Result<()> {
    let mut looked = read(dir, &view(dir)?, &(Arc::new(Nobody) as Arc<dyn Sink>))?;
    let text = if as_json { json(&mut looked).to_string() + "\n" } else { text(&mut looked)? };
    let mut out = std::io::stdout().lock();
    out.write_all(text.as_bytes())?;
    out.flush()?;
    sound(dir, &looked)
}

/// Fails where something is damaged.
fn sound(dir: &Path, looked: &Inspection) -> anyhow::Result<()> {
    let places = looked.recovered.damage.len();
    if places > 0 {
        bail!("{} is damaged: {places} findings", dir.display());
    }
    Ok(())
}

/// Holds what is in the folder now.
fn view(dir: &Path) -> anyhow::Result<View> {
    // Nothing but this happens in this process.
    let view = View::open(dir, std::thread::park_timeout).map_err(no_input)?;
    view.ok_or_else(|| no_log(dir))
}

/// Reads it all, with a bar on terminals.
fn read(dir: &Path, view: &View, sink: &Arc<dyn Sink>) -> anyhow::Result<Inspection> {
    let style = ProgressStyle::with_template("{bar:40} {percent:>3} %  {bytes} of {total_bytes}");
    // indicatif draws to stderr, and nowhere when that is no terminal.
    let bar = ProgressBar::new(0).with_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
    let shown = bar.clone();
    let show: OnProgress = Arc::new(move |progress| {
        shown.set_length(progress.bytes_total);
        shown.set_position(progress.bytes);
        ControlFlow::Continue(())
    });
    let looked = view.read(sink, Some(show));
    bar.finish_and_clear();
    looked.map_err(no_input)?.ok_or_else(|| no_log(dir))
}

fn no_input(error: galaxy_push_store::disk::OpenError) -> anyhow::Error {
    NoInput(format!("{:#}", anyhow::Error::from(error))).into()
}

fn no_log(dir: &Path) -> anyhow::Error {
    anyhow!(NoInput(format!(
        "there is no log in {}: give the folder that --data-dir named, or a copy of it",
        dir.display()
    )))
}

fn json(looked: &mut Inspection) -> Value {
    let standing = looked.standing(now_unix_ms());
    let found = &looked.recovered;
    let lost = |lost: Option<(Cursor, Cursor)>| {
        lost.map(|(from, to)| json!({ "from": from.to_string(), "to": to.to_string(), "count": to.since(from).map(|count| count.to_string()) }))
    };
    let bytes =
        |damage: &Damage| damage.bytes.as_ref().map(|bytes| json!({ "from": bytes.start, "to": bytes.end }));
    let damage = found.damage.iter().map(|damage| {
        json!({ "file": damage.file, "what": damage.what, "bytes": bytes(damage), "lost": lost(damage.lost) })
    });
    let worn =
        found.worn.iter().map(|copy| json!({ "file": copy.file, "what": copy.what, "bytes": bytes(copy) }));
    json!({
        "sound": found.damage.is_empty(),
        "epoch": looked.last.epoch.to_string(),
        "first": found.first.unwrap_or(looked.last).to_string(),
        "last": looked.last.to_string(),
        "segments": found.segments,
        "bytes": found.bytes,
        "groups": found.groups,
        "entries": found.entries,
        "keys": looked.keys,
        "invalidations": standing.invalidations,
        "memberships": standing.memberships,
        "stamped": stamp(looked.stamped_unix_ms),
        "cutOff": found.torn,
        "damage": damage.collect::<Vec<_>>(),
        "worn": worn.collect::<Vec<_>>(),
    })
}

fn text(looked: &mut Inspection) -> anyhow::Result<String> {
    let standing = looked.standing(now_unix_ms());
    let found = &looked.recovered;
    let mut text = String::new();
    let mut line = |name: &str, value: String| writeln!(text, "{name:<16}{value}").context("no memory");
    line("epoch", looked.last.epoch.to_string())?;
    line("begins after", found.first.unwrap_or(looked.last).to_string())?;
    line("last position", looked.last.to_string())?;
    line("last stamp", stamp(looked.stamped_unix_ms).unwrap_or_else(|| "none".to_owned()))?;
    line("segments", format!("{}, {} bytes", found.segments, found.bytes))?;
    line("groups", found.groups.to_string())?;
    line("entries", found.entries.to_string())?;
    line("keys", format!("{} by which repetitions are recognised", looked.keys))?;
    line(
        "standing",
        format!("{} invalidations, {} memberships hold", standing.invalidations, standing.memberships),
    )?;
    if found.torn {
        line("end", "a group was being written, of which nobody was told".to_owned())?;
    }
    for damage in &found.damage {
        line("DAMAGED", said(damage))?;
    }
    for copy in &found.worn {
        line("WORN", format!("{copy}; the next start mends it"))?;
    }
    if found.damage.is_empty() && !found.worn.is_empty() {
        line("sound", "every event and record is whole, and nothing is missing".to_owned())?;
    } else if found.damage.is_empty() {
        line("sound", "every checksum is right, and nothing is missing".to_owned())?;
    }
    Ok(text)
}

fn said(damage: &Damage) -> String {
    match damage.lost {
        Some((from, to)) => {
            let count = to.since(from).unwrap_or_default();
            format!("{damage}: {count} positions lost, after {from} up to {to}")
        }
        None => damage.to_string(),
    }
}

/// A moment as people read it. `None`: nothing was ever stamped.
fn stamp(unix_ms: u64) -> Option<String> {
    let at = SystemTime::UNIX_EPOCH.checked_add(Duration::from_millis(unix_ms)).filter(|_| unix_ms > 0)?;
    Some(humantime::format_rfc3339_millis(at).to_string())
}

fn now_unix_ms() -> u64 {
    galaxy_push_listener::ambient().unix_ms()
}

/// Wants no events.
struct Nobody;

impl Sink for Nobody {
    fn begin(&self, _: Cursor) {}

    fn committed(&self, _: &[Committed]) {}

    fn damaged(&self, _: Cursor, _: Cursor) {}
}
