//! `publish`: one event from flags, or many from CloudEvents JSON lines.
//!
//! Lines are sent in batches of at most 1,000 events and well below 4 MiB, one after another, so that their order in
//! the log is the order of the file. A line that is no event stops the run: everything before it is acknowledged,
//! nothing after it is sent.

mod lines;
mod progress;

use std::io::{IsTerminal as _, Write as _};
use std::path::Path;

use anyhow::{Context as _, bail};
use galaxy_push_client::{Failure, Published, Publisher};
use galaxy_push_proto::{cloudevents, v1, validate};

use crate::args::{EventArgs, PublishArgs};
use lines::{Checkpoint, Lines};
use progress::Progress;

/// Below the hub's limit of 4 MiB by more than any framing could add.
const BATCH_BYTES: usize = 3 << 20;

pub(crate) async fn run(args: PublishArgs) -> anyhow::Result<()> {
    let mut publisher = Publisher::builder().hub(&args.hub).give_up_after(args.timeout).build()?;
    let one = args.data.is_some()
        || args.event.data_file.is_some()
        || !args.event.to.is_empty()
        || args.event.r#type.is_some();
    if one {
        let event = single(args.data.as_deref(), &args.event)?;
        let published = send(&mut publisher, vec![event], &args.hub).await?;
        let [published] = &published[..] else { bail!("the hub answered without a result") };
        let line = serde_json::json!({
            "id": published.id, "cursor": published.cursor, "duplicate": published.duplicate
        });
        writeln!(std::io::stdout(), "{line}")?;
        return Ok(());
    }
    if args.file.is_none() && std::io::stdin().is_terminal() {
        bail!("nothing to publish: give DATA with --to and --type, --file FILE, or lines on stdin");
    }
    let checkpoint = args.checkpoint.as_deref().map(Checkpoint::open).transpose()?;
    many(&mut publisher, args.file.as_deref(), checkpoint, &args.hub).await
}

fn single(data: Option<&str>, args: &EventArgs) -> anyhow::Result<v1::Event> {
    let missing = "the event needs it; see `galaxy-push publish --help`";
    let r#type = args.r#type.clone().with_context(|| format!("--type is missing: {missing}"))?;
    if args.to.is_empty() {
        bail!("--to is missing: {missing}");
    }
    let data = match (&args.data_file, data) {
        (Some(path), _) => std::fs::read(path).with_context(|| format!("cannot read {}", path.display()))?,
        (None, data) => data.unwrap_or_default().as_bytes().to_vec(),
    };
    let mut attributes = std::collections::BTreeMap::new();
    for pair in &args.attribute {
        let (name, value) =
            pair.split_once('=').with_context(|| format!("--attribute {pair}: write NAME=VALUE"))?;
        attributes.insert(name.to_owned(), value.to_owned());
    }
    let ambient = galaxy_push_listener::ambient();
    let mut event = v1::Event {
        to: args.to.clone(),
        id: args.id.clone().unwrap_or_else(|| format!("{:032x}", ambient.random_128())),
        r#type,
        source: args.source.clone(),
        subject: args.subject.clone().unwrap_or_default(),
        data_content_type: if data.is_empty() { String::new() } else { args.content_type.clone() },
        data: data.into(),
        collapse_key: args.collapse_key.clone().unwrap_or_default(),
        ttl: args.ttl.map(prost_types::Duration::try_from).transpose().context("--ttl")?,
        attributes,
        ephemeral: args.ephemeral,
        time: None,
    };
    validate::fill_in(&mut event, ambient.unix_ms());
    // The hub may allow more than the default, and says so itself; everything else is the same everywhere.
    validate::event(&event, validate::DATA_BYTES_MAX)?;
    Ok(event)
}

async fn many(
    publisher: &mut Publisher,
    file: Option<&Path>,
    mut checkpoint: Option<Checkpoint>,
    hub: &str,
) -> anyhow::Result<()> {
    let skip = checkpoint.as_ref().map_or(0, Checkpoint::lines);
    let mut lines = Lines::open(file, skip)?;
    let mut progress = Progress::start(lines.bytes_total());
    let (mut acked, mut duplicates) = (0u64, 0u64);
    let outcome = loop {
        let (batch, bad) = lines.next_batch(validate::EVENTS_MAX, BATCH_BYTES);
        if !batch.events.is_empty() {
            match send(publisher, batch.events, hub).await {
                Ok(published) => {
                    acked += published.len() as u64;
                    duplicates += published.iter().filter(|event| event.duplicate).count() as u64;
                }
                Err(error) => break Err(error.context(format!("lines {}..={}", batch.first, batch.last))),
            }
        }
        if let Some(checkpoint) = &mut checkpoint {
            checkpoint.save(batch.last)?;
        }
        progress.advance(acked, batch.bytes);
        match bad {
            None => {}
            Some(lines::Stop::End) => break Ok(()),
            Some(lines::Stop::Bad(error)) => break Err(error),
        }
    };
    progress.finish();
    let told = format!("{acked} events acknowledged, {duplicates} of them published before\n");
    std::io::stderr().write_all(told.as_bytes())?;
    outcome.context("stopped; mend it and run again: what was acknowledged is recognised by its id")
}

async fn send(
    publisher: &mut Publisher,
    events: Vec<v1::Event>,
    hub: &str,
) -> anyhow::Result<Vec<Published>> {
    let published = publisher.publish(events).await.map_err(|failure| explain(failure, hub))?;
    if let Some((event, refusal)) = published.iter().find_map(|event| Some((event, event.refusal.as_ref()?)))
    {
        bail!("the hub refused event {}: {} (code {})", event.id, refusal.reason, refusal.code);
    }
    Ok(published)
}

fn explain(failure: Failure, hub: &str) -> anyhow::Error {
    let hint = match &failure {
        Failure::Unreachable(_) => format!("no hub answers at {hub}; start one with `galaxy-push serve`"),
        Failure::NotGrpc { .. } => {
            format!("{hub} is no hub; the hub listener is the one on port 7400 by default")
        }
        Failure::Status(_) => "the hub refused".to_owned(),
        _ => format!(
            "the hub at {hub} gave no answer; whether it took the events is unknown, publish them again"
        ),
    };
    anyhow::Error::msg(failure.to_string()).context(hint)
}

/// One line of a file as an event, checked as the hub will check it.
fn parse_line(line: &[u8], number: u64) -> anyhow::Result<Option<v1::Event>> {
    let Some(mut event) = cloudevents::parse_line(line, number)? else { return Ok(None) };
    validate::fill_in(&mut event, galaxy_push_listener::ambient().unix_ms());
    validate::event(&event, validate::DATA_BYTES_MAX).map_err(|invalid| invalid.on_line(number))?;
    Ok(Some(event))
}
