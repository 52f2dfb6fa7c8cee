//! One event from flags.

use std::fs::File;
use std::path::Path;

use anyhow::{Context as _, anyhow};
use galaxy_push_listener::read_at_most;
use galaxy_push_proto::{v1, validate};

use crate::Usage;
use crate::args::EventArgs;

/// The flag behind each field of an event, for what is said about it.
const FLAGS: [(&str, &str); 9] = [
    ("to", "--to"),
    ("type", "--type"),
    ("id", "--id"),
    ("source", "--source"),
    ("subject", "--subject"),
    ("collapse_key", "--collapse-key"),
    ("data_content_type", "--content-type"),
    ("ttl", "--ttl"),
    ("attributes", "--attribute"),
];

pub(super) fn event(data: Option<&str>, args: &EventArgs) -> anyhow::Result<v1::Event> {
    let data = match (args.data_file.as_deref(), data) {
        (Some(path), _) if path != Path::new("-") => {
            let read = File::open(path).and_then(|file| read_at_most(file, validate::DATA_BYTES_MAX));
            read.with_context(|| format!("cannot read --data-file {}", path.display()))?
        }
        (Some(_), _) | (None, Some("-")) => read_at_most(std::io::stdin(), validate::DATA_BYTES_MAX)
            .context("cannot read the data from stdin")?,
        (None, data) => data.unwrap_or_default().as_bytes().to_vec(),
    };
    let ambient = galaxy_push_listener::ambient();
    let mut event = v1::Event {
        to: args.to.clone(),
        id: args.id.clone().unwrap_or_else(|| format!("{:032x}", ambient.random_128())),
        r#type: args.r#type.clone().unwrap_or_default(),
        source: args.source.clone(),
        subject: args.subject.clone().unwrap_or_default(),
        data_content_type: if data.is_empty() { String::new() } else { args.content_type.clone() },
        data: data.into(),
        collapse_key: args.collapse_key.clone().unwrap_or_default(),
        ttl: args.ttl.map(prost_types::Duration::try_from).transpose().context("--ttl")?,
        attributes: args.attribute.iter().cloned().collect(),
        ephemeral: args.ephemeral,
        time: None,
    };
    validate::fill_in(&mut event, ambient.unix_ms());
    // The hub may allow less data than this, and says so itself; everything else is the same everywhere.
    validate::event(&event, validate::DATA_BYTES_MAX)
        .map_err(|invalid| anyhow!(Usage(in_flags(&invalid))))?;
    Ok(event)
}

/// What is wrong, by the name of the flag.
fn in_flags(invalid: &validate::Invalid) -> String {
    let field = invalid.field.split(['[', '.']).next().unwrap_or_default();
    let flag = FLAGS.iter().find(|(name, _)| *name == field).map_or("DATA", |(_, flag)| flag);
    let message = invalid.message.replace("another data_content_type", "its type: --content-type text/plain");
    format!("{flag}: {message}")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn complaint(args: EventArgs, data: &str) -> String {
        event(Some(data), &args).unwrap_err().to_string()
    }

    fn args(content_type: &str) -> EventArgs {
        EventArgs {
            to: vec!["user:42".into()],
            r#type: Some("turn.ready".into()),
            id: None,
            source: "test".into(),
            subject: None,
            data_file: None,
            content_type: content_type.into(),
            ttl: None,
            collapse_key: None,
            ephemeral: false,
            attribute: vec![],
        }
    }

    #[test]
    fn mistakes_are_told_by_the_name_of_the_flag() {
        let plain = || args("text/plain");
        for (args, data, expected) in [
            (args("application/json"), "hello", "DATA: is not valid JSON"),
            (args("application/json"), "hello", "--content-type text/plain"),
            (args("html"), "hello", "--content-type: must be a media type"),
            (EventArgs { r#type: Some("push.gap".into()), ..plain() }, "", "--type: "),
            (EventArgs { id: Some(String::new()), ..plain() }, "", "--id: is required"),
            (EventArgs { subject: Some("a\nb".into()), ..plain() }, "", "--subject: "),
            (EventArgs { attribute: vec![("BAD".into(), "x".into())], ..plain() }, "", "--attribute: "),
            (EventArgs { to: vec!["user:1".into(); 257], ..plain() }, "", "--to: 257 recipients"),
            (plain(), &"x".repeat((1 << 20) + 1), "DATA: "),
        ] {
            let complaint = complaint(args, data);
            assert!(complaint.contains(expected), "{expected}: {complaint}");
        }
        assert!(event(Some("[1]"), &args("application/json")).is_ok());
        assert!(event(None, &args("application/json")).unwrap().data_content_type.is_empty());
    }
}
