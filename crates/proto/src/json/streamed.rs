//! Arrays and objects read item by item, so that one with more of them than it may have is refused at the first too many:
//! two bytes of JSON would otherwise take sixteen and more of memory.

use std::borrow::Cow;
use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, Error as _, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, de};
use serde_json::value::RawValue;

use crate::Invalid;

/// Why reading ended early.
pub(crate) enum Ended {
    /// It is not JSON, or not of this kind.
    Unreadable(serde_json::Error),
    /// An item breaks a rule.
    Broken(Invalid),
}

/// Hands each item of a JSON array to `each`, with its index, until that refuses one.
pub(crate) fn items<'a>(
    json: &'a [u8],
    each: impl FnMut(usize, &'a RawValue) -> Result<(), Invalid>,
) -> Result<(), Ended> {
    let mut broken = None;
    read(json, Items { each, broken: &mut broken }).map_err(|error| ended(error, broken))
}

/// Hands each member of a JSON object to `each`, in order and with repeated names, until that refuses one.
pub(crate) fn members<'a>(
    json: &'a [u8],
    each: impl FnMut(Cow<'a, str>, &'a RawValue) -> Result<(), Invalid>,
) -> Result<(), Ended> {
    let mut broken = None;
    read(json, Members { each, broken: &mut broken }).map_err(|error| ended(error, broken))
}

/// A list of texts of at most `MAX`; more are an error of the reader.
pub(crate) struct Texts<const MAX: usize>(pub(crate) Vec<String>);

impl Ended {
    /// What is told, where `unreadable` says what the JSON as a whole must be.
    pub(crate) fn invalid(self, unreadable: impl FnOnce(serde_json::Error) -> Invalid) -> Invalid {
        match self {
            Self::Unreadable(error) => unreadable(error),
            Self::Broken(invalid) => invalid,
        }
    }
}

fn ended(error: serde_json::Error, broken: Option<Invalid>) -> Ended {
    broken.map_or(Ended::Unreadable(error), Ended::Broken)
}

fn read<'a, S: DeserializeSeed<'a, Value = ()>>(json: &'a [u8], seed: S) -> serde_json::Result<()> {
    let mut reader = serde_json::Deserializer::from_slice(json);
    seed.deserialize(&mut reader)?;
    reader.end()
}

struct Items<'b, F> {
    each: F,
    broken: &'b mut Option<Invalid>,
}

struct Members<'b, F> {
    each: F,
    broken: &'b mut Option<Invalid>,
}

impl<'de, F: FnMut(usize, &'de RawValue) -> Result<(), Invalid>> Visitor<'de> for Items<'_, F> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an array")
    }

    fn visit_seq<A: SeqAccess<'de>>(mut self, mut items: A) -> Result<(), A::Error> {
        let mut index = 0;
        while let Some(item) = items.next_element()? {
            (self.each)(index, item).map_err(|invalid| {
                *self.broken = Some(invalid);
                A::Error::custom("refused")
            })?;
            index += 1;
        }
        Ok(())
    }
}

impl<'de, F: FnMut(Cow<'de, str>, &'de RawValue) -> Result<(), Invalid>> Visitor<'de> for Members<'_, F> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(mut self, mut members: A) -> Result<(), A::Error> {
        while let Some((Name(name), value)) = members.next_entry()? {
            (self.each)(name, value).map_err(|invalid| {
                *self.broken = Some(invalid);
                A::Error::custom("refused")
            })?;
        }
        Ok(())
    }
}

impl<'de, F: FnMut(usize, &'de RawValue) -> Result<(), Invalid>> DeserializeSeed<'de> for Items<'_, F> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_seq(self)
    }
}

impl<'de, F: FnMut(Cow<'de, str>, &'de RawValue) -> Result<(), Invalid>> DeserializeSeed<'de>
    for Members<'_, F>
{
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_map(self)
    }
}

/// A name as it was sent, where it has no escapes.
#[derive(Deserialize)]
struct Name<'a>(#[serde(borrow)] Cow<'a, str>);

impl<'de, const MAX: usize> Deserialize<'de> for Texts<MAX> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct TextsVisitor<const MAX: usize>;

        impl<'de, const MAX: usize> Visitor<'de> for TextsVisitor<MAX> {
            type Value = Texts<MAX>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "an array of at most {MAX} texts")
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Self::Value, A::Error> {
                let mut texts = Vec::new();
                while let Some(text) = items.next_element()? {
                    if texts.len() == MAX {
                        return Err(de::Error::invalid_length(MAX + 1, &self));
                    }
                    texts.push(text);
                }
                Ok(Texts(texts))
            }
        }

        deserializer.deserialize_seq(TextsVisitor)
    }
}
