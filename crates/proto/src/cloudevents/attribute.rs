//! Attributes one by one, by the names and text forms that every mode shares.

use crate::validate::{check_attribute_name, check_attributes_count, check_recipients_count};
use crate::{Invalid, Reason, time, v1};

/// An event that is being read.
#[derive(Default)]
pub(super) struct Reading {
    event: v1::Event,
    specversion: bool,
}

impl Reading {
    /// Takes one attribute in its text form.
    pub(super) fn attribute(&mut self, name: &str, text: String) -> Result<(), Invalid> {
        let event = &mut self.event;
        match name {
            "specversion" if text == "1.0" => self.specversion = true,
            "specversion" => return Err(Invalid::new(name, "must be \"1.0\"")),
            "id" => event.id = text,
            "source" => event.source = text,
            "type" => event.r#type = text,
            "subject" => event.subject = text,
            "datacontenttype" => event.data_content_type = text,
            "time" => {
                let time = time::parse_timestamp(&text);
                event.time = Some(time.ok_or_else(|| {
                    Invalid::new(name, "must be a time in RFC 3339 such as 2026-01-31T12:00:00Z")
                })?);
            }
            "to" => {
                check_recipients_count(text.bytes().filter(|byte| *byte == b',').count() + 1)?;
                event.to =
                    text.split(',').map(|recipient| recipient.trim_matches([' ', '\t']).to_owned()).collect()
            }
            "collapsekey" => event.collapse_key = text,
            "ttl" => {
                let ttl = time::parse_seconds(&text);
                event.ttl =
                    Some(ttl.ok_or_else(|| Invalid::new(name, "must be a number of seconds such as 30"))?);
            }
            "ephemeral" => {
                event.ephemeral = text.parse().map_err(|_| Invalid::new(name, "must be true or false"))?;
            }
            _ => {
                check_attribute_name(name)?;
                event.attributes.insert(name.to_owned(), text);
                check_attributes_count(event.attributes.len())?;
            }
        }
        Ok(())
    }

    /// The media type of the data, as far as it is read.
    pub(super) fn data_content_type(&self) -> &str {
        &self.event.data_content_type
    }

    /// Ends the reading: every required attribute must be there.
    pub(super) fn finish(mut self, data: bytes::Bytes) -> Result<v1::Event, Invalid> {
        let event = &self.event;
        if !self.specversion {
            return Err(Invalid::new("specversion", "is required, and must be \"1.0\""));
        }
        for (name, text) in [("id", &event.id), ("source", &event.source), ("type", &event.r#type)] {
            if text.is_empty() {
                return Err(Invalid::new(name, "is required"));
            }
        }
        if event.to.iter().all(String::is_empty) {
            let message = "is required: name at least one recipient, such as user:42";
            return Err(Invalid { reason: Reason::RecipientInvalid, ..Invalid::new("to", message) });
        }
        self.event.data = data;
        Ok(self.event)
    }
}
