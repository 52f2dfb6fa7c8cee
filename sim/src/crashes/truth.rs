//! What the log must hold: what publishers were answered, and what every reader was ever shown.
//!
//! The hub's own counters and log lines are no part of it. Each life of the hub is judged by a reading from the oldest
//! event on ([`Reading`]), against all that came before. What is wrong is a fault, in words; a run ends with its first.

use std::collections::{BTreeMap, HashMap};

use galaxy_push_proto::v1;
use galaxy_push_testkit::history::{self, Hash};

use super::prints::seen;
use super::reading::Reading;
use super::request::Request;
use crate::frames;

/// What was asked for under one id.
#[derive(Debug)]
struct Asked {
    print: Hash,
    /// What was asked for together is appended together.
    together: u64,
    ephemeral: bool,
    tries: u32,
    said: Said,
    /// Where it lies though nobody was told so; or that it lies nowhere, as a reading since the last try shows.
    found: Option<Found>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Said {
    /// No answer, or one that leaves it open.
    Nothing,
    /// Surely not appended.
    Refused,
    /// Acknowledged; an ephemeral event has no position.
    Appended(Option<u64>),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Found {
    At(u64),
    Nowhere,
}

/// What became of what a publisher had no answer to.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Counts {
    pub(super) acked: u64,
    pub(super) repeats: u64,
    pub(super) refused: u64,
    pub(super) landed: u64,
    pub(super) lost: u64,
    pub(super) delivered: u64,
    pub(super) readings: u64,
    pub(super) read: u64,
    /// Positions that the window had left at the last reading.
    pub(super) left: u64,
}

/// Everything that anybody was told.
#[derive(Debug, Default)]
pub(super) struct Truth {
    epoch: Option<String>,
    places: BTreeMap<u64, (String, Hash)>,
    asked: HashMap<String, Asked>,
    /// Whose answer is open, by what was asked for together.
    open: BTreeMap<u64, Vec<String>>,
    standing: Standing,
    pub(super) counts: Counts,
}

/// What holds, as far as it was acknowledged.
#[derive(Debug, Default)]
struct Standing {
    /// By what it is about; the record with the last position holds.
    holds: BTreeMap<String, (u64, Option<Hash>)>,
    /// Asked for and not answered, by their ids: either may hold.
    open: BTreeMap<String, BTreeMap<String, Option<Hash>>>,
}

/// A broken promise, in words.
pub(super) type Fault = anyhow::Error;

macro_rules! promise {
    ($holds:expr, $($broken:tt)+) => {
        anyhow::ensure!($holds, $($broken)+)
    };
}

impl Truth {
    /// Something is about to be asked for, perhaps again.
    pub(super) fn asks(&mut self, request: &Request) {
        let together = request.number();
        let items = request.items();
        let mut is_answered = false;
        for item in &items {
            let asked = self.asked.entry(item.id.clone()).or_insert_with(|| Asked {
                print: item.print,
                together,
                ephemeral: item.ephemeral,
                tries: 0,
                said: Said::Nothing,
                found: None,
            });
            asked.tries += 1;
            if asked.said == Said::Refused {
                asked.said = Said::Nothing;
            }
            if let Said::Appended(_) = asked.said {
                self.counts.repeats += 1;
                is_answered = true;
            } else if let Some((key, holds)) = &item.standing {
                self.standing.open.entry(key.clone()).or_default().insert(item.id.clone(), *holds);
            }
        }
        if !is_answered {
            self.open.insert(together, items.into_iter().map(|item| item.id).collect());
        }
    }

    /// It was acknowledged: where each item lies, and whether it lay there before.
    pub(super) fn acknowledged(&mut self, request: &Request, answer: &[(String, bool)]) -> Result<(), Fault> {
        let items = request.items();
        promise!(items.len() == answer.len(), "{} answers to {} items", answer.len(), items.len());
        self.open.remove(&request.number());
        let mut last = None::<(u64, u64)>;
        for (item, (cursor, duplicate)) in items.iter().zip(answer) {
            let place = self.place(cursor)?;
            let id = &item.id;
            let Some(asked) = self.asked.get_mut(id) else { continue };
            promise!(place.is_some() != item.ephemeral, "{id}: the answer is {cursor:?}");
            match asked.said {
                Said::Appended(before) => promise!(
                    *duplicate && place == before,
                    "{id} was acknowledged at {before:?}, and again at {place:?}, as a duplicate: {duplicate}"
                ),
                _ if *duplicate => promise!(asked.tries > 1, "{id} is new, and called a duplicate"),
                _ => {}
            }
            match asked.found {
                Some(Found::At(at)) => promise!(
                    *duplicate && place == Some(at),
                    "{id} lay at {at}, and was acknowledged at {place:?}, as a duplicate: {duplicate}"
                ),
                Some(Found::Nowhere) => promise!(!duplicate, "{id} lay nowhere, and is called a duplicate"),
                None => {}
            }
            let is_new = !matches!(asked.said, Said::Appended(_));
            (asked.said, asked.found) = (Said::Appended(place), None);
            self.counts.acked += u64::from(is_new);
            let together = asked.together;
            if let Some(place) = place {
                let before = last.replace((together, place));
                let follows = before.is_none_or(|(with, before)| with != together || before + 1 == place);
                promise!(
                    follows,
                    "{id} lies at {place}, and what was published just before it at {before:?}"
                );
                self.lies(place, id, item.print)?;
                if let Some((key, holds)) = item.standing.as_ref().filter(|_| is_new) {
                    self.standing.closed(key, id);
                    let last = self.standing.holds.entry(key.clone()).or_insert((place, *holds));
                    *last = (place, *holds).max(*last);
                }
            }
        }
        Ok(())
    }

    /// It was refused: if no earlier try is open, it is surely not in the log. Whether that is so.
    pub(super) fn refused(&mut self, request: &Request) -> bool {
        self.counts.refused += 1;
        let mut surely = true;
        for item in request.items() {
            let Some(asked) = self.asked.get_mut(&item.id) else { continue };
            let is_open =
                asked.tries > 1 && asked.said == Said::Nothing && asked.found != Some(Found::Nowhere);
            surely &= !is_open;
            if !is_open && asked.said == Said::Nothing {
                asked.said = Said::Refused;
            }
        }
        if surely {
            self.open.remove(&request.number());
            for item in request.items() {
                item.standing.iter().for_each(|(key, _)| self.standing.closed(key, &item.id));
            }
        }
        surely
    }

    /// Nobody knows what became of it. Whether that is still to be found out: not of what was acknowledged before.
    pub(super) fn unknown(&mut self, request: &Request) -> bool {
        let mut is_open = false;
        for item in request.items() {
            let Some(asked) = self.asked.get_mut(&item.id) else { continue };
            if asked.found == Some(Found::Nowhere) {
                asked.found = None;
            }
            is_open |= !matches!(asked.said, Said::Appended(_));
        }
        is_open
    }

    /// A reader was sent this.
    pub(super) fn delivered(&mut self, cursor: &str, frame: &v1::PushEvent) -> Result<u64, Fault> {
        let Some(place) = self.place(cursor)? else { anyhow::bail!("{cursor:?} is no position") };
        let Some((id, print)) = seen(frame) else { anyhow::bail!("{frame:?} has a position") };
        self.counts.delivered += 1;
        self.lies(place, &id, print)?;
        Ok(place)
    }

    /// Judges what a life of the hub has to read, before anything is published in it.
    pub(super) fn judge(&mut self, reading: &Reading, window_bytes: u64) -> Result<(), Fault> {
        self.epoch(&reading.epoch)?;
        let (base, head) = (reading.base, reading.head);
        let known = self.head();
        promise!(head >= known, "the log ends at {head}, and {known} was acknowledged or delivered");
        let mut at = base;
        let mut here = HashMap::new();
        for (place, id, print) in &reading.entries {
            promise!(*place == at + 1, "after {at} comes {place}");
            at = *place;
            if let Some(before) = here.insert(id.as_str(), *place) {
                anyhow::bail!("{id} lies at {before} and at {place}");
            }
            let asked = self.asked.get(id);
            promise!(asked.is_some(), "nobody has published {id}, at {place}");
            promise!(
                asked.is_none_or(|asked| asked.said != Said::Refused),
                "{id} was refused, and lies at {place}"
            );
            let (id, print) = (id.clone(), *print);
            self.lies(*place, &id, print)?;
        }
        let held = reading.bytes * 4 >= window_bytes * 3;
        promise!(base == 0 || held, "the reading begins after {base}, and has {} bytes", reading.bytes);
        promise!(at == head, "the reading ends at {at}, and the log at {head}");
        self.counts.left = base;
        self.find_out(&here)?;
        self.standing.judge(reading)?;
        self.counts.readings += 1;
        self.counts.read += reading.entries.len() as u64;
        Ok(())
    }

    /// What became of everything that nobody had an answer to: each is there as a whole, in one piece, or not at all.
    fn find_out(&mut self, here: &HashMap<&str, u64>) -> Result<(), Fault> {
        for ids in self.open.values() {
            let mut places = Vec::new();
            for id in ids {
                // An ephemeral event lies nowhere: whether its id is known shows only when it is asked for again.
                let Some(asked) = self.asked.get_mut(id).filter(|asked| !asked.ephemeral) else { continue };
                let place = here.get(id.as_str()).copied();
                let before = asked.found.replace(place.map_or(Found::Nowhere, Found::At));
                let (counts, is_first) = (&mut self.counts, before.is_none());
                counts.landed += u64::from(is_first && place.is_some());
                counts.lost += u64::from(is_first && place.is_none());
                places.push(place);
            }
            let there: Vec<_> = places.iter().flatten().collect();
            let whole = there.is_empty() || there.len() == places.len();
            promise!(whole, "of {ids:?}, published together, there are {places:?}");
            let in_one_piece = there.windows(2).all(|pair| *pair[0] + 1 == *pair[1]);
            promise!(in_one_piece, "{ids:?}, published together, lie at {places:?}");
        }
        Ok(())
    }

    /// The last position that anybody was told of.
    pub(super) fn head(&self) -> u64 {
        self.places.last_key_value().map_or(0, |(place, _)| *place)
    }

    /// The sessions that have ended, by what was acknowledged.
    pub(super) fn ended_sessions(&self) -> Vec<String> {
        let sessions = self.standing.holds.keys().filter_map(|key| key.strip_prefix("session:"));
        sessions.map(str::to_owned).collect()
    }

    /// Whose answer is open.
    pub(super) fn open(&self) -> usize {
        self.open.len()
    }

    fn lies(&mut self, place: u64, id: &str, print: Hash) -> Result<(), Fault> {
        if let Some(asked) = self.asked.get(id) {
            promise!(asked.print == print, "{id}, at {place}, is not what was published");
            if let Said::Appended(at) = asked.said {
                promise!(at == Some(place), "{id} was acknowledged at {at:?}, and lies at {place}");
            }
        }
        let (before, same) = self.places.entry(place).or_insert_with(|| (id.to_owned(), print));
        promise!(*before == id && *same == print, "{place} was {before}, and is {id} now");
        Ok(())
    }

    /// The position in a cursor's text, which must be of the one epoch.
    fn place(&mut self, cursor: &str) -> Result<Option<u64>, Fault> {
        match frames::cursor(cursor) {
            history::Cursor::Empty => Ok(None),
            history::Cursor::At(position) => {
                self.epoch(&position.epoch)?;
                Ok(Some(position.seq))
            }
            _ => anyhow::bail!("{cursor:?} is no position"),
        }
    }

    fn epoch(&mut self, epoch: &str) -> Result<(), Fault> {
        let one = self.epoch.get_or_insert_with(|| epoch.to_owned());
        promise!(one == epoch, "the epoch was {one}, and is {epoch} now");
        Ok(())
    }
}

impl Standing {
    /// It is open no longer.
    fn closed(&mut self, key: &str, id: &str) {
        if let Some(open) = self.open.get_mut(key) {
            open.remove(id);
        }
    }

    fn may_hold(&self, key: &str, holds: Option<Hash>) -> bool {
        self.open.get(key).is_some_and(|open| open.values().any(|each| *each == holds))
    }

    fn judge(&self, reading: &Reading) -> Result<(), Fault> {
        for (key, (_, holds)) in &self.holds {
            let here = reading.standing.get(key).copied();
            let open = self.may_hold(key, here);
            promise!(here == *holds || open, "of {key} holds {here:?}, and {holds:?} was acknowledged");
        }
        for (key, here) in &reading.standing {
            let open = self.may_hold(key, Some(*here));
            let known = self.holds.get(key).is_some_and(|(_, holds)| holds.as_ref() == Some(here));
            promise!(known || open, "{here:?} holds for {key}, and nobody has said so");
        }
        Ok(())
    }
}
