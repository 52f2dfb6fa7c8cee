//! `cargo xtask webhooks`: real webhook payloads as CloudEvents, one JSON object a line.
//!
//! Called from `commands` and `test`; the lines are input for `galaxy-push publish --file` and the end-to-end test. The payloads
//! are those of the npm package `@octokit/webhooks-examples`: github.com's and those of five server releases.
//!
//! The order, the ids and the times depend on the package alone, so two runs write the same bytes:
//! - `id` is `<set>/<event>/<number>`: unique, and the same in every run.
//! - `source` is `github/<owner>/<repository>` (`ghes-35/…` for a server release), as far as the payload names them.
//! - `type` is `github.<event>.<action>`, or `github.<event>` for events without actions.
//! - `to` is `user:<sender's login>` and `topic:<repository's full name>`. Payloads that name neither (security advisories)
//!   concern everybody: `all`.
//! - `time` is made up, one second after the one before: most payloads have no time of their own.
//! - `data` is the payload as it stands in the package, without the white space between its tokens.
//!
//! Every payload is kept, whatever its size; the summary counts those above the hub's default limit of 64 KiB (none, in the pinned
//! release), which a hub refuses unless started with a higher one.

#[cfg(test)]
mod tests;

use std::{
    collections::BTreeSet,
    fs,
    io::{self, Write},
    path::{Path, PathBuf},
};

use anyhow::{Context, Result, ensure};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use crate::{project::Project, tools::Tools, ui};

/// The sets of payloads in the package, github.com first, and the word that opens their sources.
const SETS: [(&str, &str); 6] = [
    ("api.github.com", "github"),
    ("ghes-31", "ghes-31"),
    ("ghes-32", "ghes-32"),
    ("ghes-33", "ghes-33"),
    ("ghes-34", "ghes-34"),
    ("ghes-35", "ghes-35"),
];

/// What a hub takes as the data of one event until told otherwise.
const DEFAULT_EVENT_BYTES: usize = 64 * 1024;

/// One line of the output: a CloudEvent in the JSON form, with the recipients in `to`.
#[derive(Debug, Serialize)]
#[serde(rename_all = "lowercase")]
struct CloudEvent {
    specversion: &'static str,
    id: String,
    source: String,
    r#type: String,
    time: String,
    to: String,
    datacontenttype: &'static str,
    data: Box<RawValue>,
}

/// All examples of one kind of webhook, as the package keeps them.
#[derive(Debug, Deserialize)]
struct Webhook {
    name: String,
    examples: Vec<Box<RawValue>>,
}

/// What of a payload says whom it is for.
#[derive(Debug, Deserialize)]
struct Payload {
    action: Option<String>,
    sender: Option<Sender>,
    repository: Option<Repository>,
    organization: Option<Sender>,
}

#[derive(Debug, Deserialize)]
struct Sender {
    login: String,
}

#[derive(Debug, Deserialize)]
struct Repository {
    full_name: String,
}

/// Writes the events to `out` (`target/webhooks.ndjson` unless told otherwise; `-` is standard output) and says what they are.
pub(crate) fn run(project: &Project, out: Option<PathBuf>) -> Result<()> {
    let package = Tools::npm(project)?.join("@octokit/webhooks-examples");
    let events = read_package(&package)?;
    let mut lines = Vec::new();
    for event in &events {
        serde_json::to_writer(&mut lines, event)?;
        lines.push(b'\n');
    }
    let out = out.unwrap_or_else(|| project.output.join("webhooks.ndjson"));
    if out == Path::new("-") {
        io::stdout().write_all(&lines).context("cannot write to standard output")?;
        ui::complain(&summary(&events));
    } else {
        fs::write(&out, lines).with_context(|| format!("cannot write {}", out.display()))?;
        ui::line(&format!("{}: {}", project.shown(&out), summary(&events)));
    }
    Ok(())
}

fn read_package(package: &Path) -> Result<Vec<CloudEvent>> {
    let mut events = Vec::new();
    for (set, word) in SETS {
        let path = package.join(set).join("index.json");
        let text = fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
        let webhooks: Vec<Webhook> = serde_json::from_str(&text)
            .with_context(|| format!("{} is not the list of webhooks it was", path.display()))?;
        for webhook in webhooks {
            for (number, example) in webhook.examples.iter().enumerate() {
                let id = format!("{set}/{}/{number}", webhook.name);
                let event = event(&webhook.name, word, &id, events.len(), example)
                    .with_context(|| format!("cannot turn {id} into an event"))?;
                events.push(event);
            }
        }
    }
    ensure!(!events.is_empty(), "{} holds no payloads", package.display());
    Ok(events)
}

fn event(webhook: &str, word: &str, id: &str, index: usize, example: &RawValue) -> Result<CloudEvent> {
    let payload: Payload = serde_json::from_str(example.get())?;
    let mut r#type = format!("github.{webhook}");
    if let Some(action) = &payload.action {
        r#type = format!("{type}.{action}");
    }
    Ok(CloudEvent {
        specversion: "1.0",
        id: id.to_owned(),
        source: source(word, &payload),
        r#type,
        time: time(index),
        to: recipients(&payload).join(","),
        datacontenttype: "application/json",
        data: RawValue::from_string(compact(example.get()))?,
    })
}

fn source(word: &str, payload: &Payload) -> String {
    let place = payload.repository.as_ref().map(|repository| &repository.full_name);
    let owner = payload.organization.as_ref().map(|organization| &organization.login);
    match place.or(owner) {
        Some(place) => format!("{word}/{}", recipient_id(place)),
        None => word.to_owned(),
    }
}

fn recipients(payload: &Payload) -> Vec<String> {
    let user = payload.sender.as_ref().map(|sender| format!("user:{}", recipient_id(&sender.login)));
    let topic = payload
        .repository
        .as_ref()
        .map(|repository| format!("topic:{}", recipient_id(&repository.full_name)));
    let named: Vec<String> = user.into_iter().chain(topic).collect();
    if named.is_empty() { vec!["all".to_owned()] } else { named }
}

/// A name as the id of a recipient: what an id must not hold becomes `-`, and what is beyond 255 bytes is cut off.
fn recipient_id(name: &str) -> String {
    let mut id = String::new();
    for letter in name.chars() {
        let letter = if letter.is_control() || letter == ' ' || letter == ',' { '-' } else { letter };
        if id.len() + letter.len_utf8() > 255 {
            break;
        }
        id.push(letter);
    }
    if id.is_empty() { "-".to_owned() } else { id }
}

/// The time of the event with this number: one second apart, from the start of 2024.
fn time(index: usize) -> String {
    let (minutes, second) = (index / 60, index % 60);
    let (hours, minute) = (minutes / 60, minutes % 60);
    let (day, hour) = (1 + hours / 24, hours % 24);
    format!("2024-01-{day:02}T{hour:02}:{minute:02}:{second:02}Z")
}

/// The same JSON on one line: the white space between tokens goes, every other byte stays as it is.
fn compact(json: &str) -> String {
    let mut compacted = String::with_capacity(json.len());
    let (mut in_string, mut escaped) = (false, false);
    for letter in json.chars() {
        if in_string || !letter.is_ascii_whitespace() {
            compacted.push(letter);
        }
        match letter {
            _ if escaped => escaped = false,
            '\\' if in_string => escaped = true,
            '"' => in_string = !in_string,
            _ => {}
        }
    }
    compacted
}

fn summary(events: &[CloudEvent]) -> String {
    let recipients: BTreeSet<&str> = events.iter().flat_map(|event| event.to.split(',')).collect();
    let types: BTreeSet<&str> = events.iter().map(|event| event.r#type.as_str()).collect();
    let of = |kind: &str| recipients.iter().filter(|recipient| recipient.starts_with(kind)).count();
    let bytes: usize = events.iter().map(|event| event.data.get().len()).sum();
    let largest = events.iter().map(|event| event.data.get().len()).max().unwrap_or(0);
    let beyond = events.iter().filter(|event| event.data.get().len() > DEFAULT_EVENT_BYTES).count();
    format!(
        "{} events of {} types to {} recipients ({} users, {} topics, {} for all); {} KiB of data, the largest {largest} bytes, \
         {beyond} above the default limit of {DEFAULT_EVENT_BYTES} bytes",
        events.len(),
        types.len(),
        recipients.len(),
        of("user:"),
        of("topic:"),
        events.iter().filter(|event| event.to == "all").count(),
        bytes / 1024,
    )
}
