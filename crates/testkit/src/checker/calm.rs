//! Whether anything happened to a reader and to those it reads through: what takes its time is judged only where nothing did.
//!
//! Used by the promises about time and by **live** for whoever is slow. A fault is known by its text: it names one process, or
//! the two between which it lies, or what keeps the log. Built once, with the index.

use std::collections::{HashMap, HashSet};

use crate::history::{Hop, Open, Record, StreamId, What};

/// Whoever has paused finds what came meanwhile: for so long after a pause nothing is judged.
const AFTER_A_PAUSE_US: u64 = 1_000_000;

/// A user that takes nothing for 5 s is given up, and hears nothing of it where the end is lost with what it had not read.
const GIVEN_UP_US: u64 = 4_500_000;

/// What befell whom, and when.
#[derive(Default)]
pub(super) struct Calm<'h> {
    faults: Vec<Stretch<'h>>,
    /// Starts and ends of processes.
    turns: HashMap<&'h str, Vec<u64>>,
    /// When readers of these streams did not read.
    pauses: HashMap<StreamId, Vec<Paused>>,
    /// By gateway: when its stream from the hub came to the head, and when it no longer was there.
    upstream: HashMap<&'h str, Vec<(u64, bool)>>,
    hubs: HashSet<&'h str>,
    /// Readers that give what they read to a handler.
    handlers: HashSet<&'h str>,
}

/// A stretch in which a reader did not read.
#[derive(Clone, Copy)]
pub(super) struct Paused {
    pub(super) from_us: u64,
    pub(super) until_us: u64,
    /// No more than this was on its way to it.
    pub(super) ahead_bytes: Option<u64>,
}

/// A fault, from its start to its end.
struct Stretch<'h> {
    from_us: u64,
    until_us: u64,
    strikes: Strikes<'h>,
}

#[derive(PartialEq, Eq)]
enum Strikes<'h> {
    One(&'h str),
    Between(&'h str, &'h str),
}

impl<'h> Strikes<'h> {
    fn read(detail: &'h str) -> Self {
        let pair = detail.split_once(" | ").or_else(|| detail.split_once(" -x-> "));
        pair.map_or(Self::One(detail), |(one, other)| Self::Between(one, other))
    }
}

impl<'h> Calm<'h> {
    pub(super) fn new(records: &'h [Record]) -> Self {
        let mut calm = Self::default();
        let mut open: HashMap<(&str, &str), Vec<usize>> = HashMap::new();
        for Record { at_us, process, what } in records {
            match what {
                What::FaultStart(fault) => {
                    open.entry((&*fault.kind, &*fault.detail)).or_default().push(calm.faults.len());
                    let strikes = Strikes::read(&fault.detail);
                    calm.faults.push(Stretch { from_us: *at_us, until_us: u64::MAX, strikes });
                }
                What::FaultStop(fault) => {
                    let begun =
                        open.get_mut(&(&*fault.kind, &*fault.detail)).filter(|begun| !begun.is_empty());
                    if let Some(begun) = begun {
                        calm.faults[begun.remove(0)].until_us = *at_us;
                    }
                }
                What::Start | What::Crash => calm.turns.entry(process).or_default().push(*at_us),
                What::Pause(pause) => {
                    let paused =
                        Paused { from_us: *at_us, until_us: pause.until_us, ahead_bytes: pause.ahead_bytes };
                    calm.pauses.entry(pause.stream).or_default().push(paused);
                }
                What::Handler(handler) => {
                    calm.handlers.insert(&handler.reader);
                }
                What::Upstream { live } => calm.upstream.entry(process).or_default().push((*at_us, *live)),
                What::Open(Open { hop: Hop::Gateway, at: Some(at), .. }) => {
                    calm.hubs.insert(at);
                }
                _ => {}
            }
        }
        calm
    }

    /// Whether nothing befell the reader of a stream, its server, and what lies between them, in this time.
    pub(super) fn is_calm(&self, process: &str, open: &Open, from_us: u64, until_us: u64) -> bool {
        let server = open.at.as_deref();
        let is_server = |name: &str| match server {
            Some(server) => name == server,
            None => self.hubs.contains(name),
        };
        let strikes = |struck: &Strikes<'_>| match struck {
            Strikes::One("brokers") => open.hop == Hop::Gateway,
            // A rival takes the id, not the process.
            Strikes::One(one) => *one == process || *one == &*open.reader || is_server(one),
            Strikes::Between(a, b) => *a == process && is_server(b) || *b == process && is_server(a),
        };
        let turned = |name: &str| self.turned(name, from_us, until_us);
        let turns = turned(process) || server.map_or_else(|| self.hubs.iter().any(|hub| turned(hub)), turned);
        !turns && !self.has_fault(from_us, until_us, strikes)
    }

    /// Whether a gateway was at the head of its hub's log all the time, and nothing befell the two.
    pub(super) fn is_fed(&self, gateway: &str, from_us: u64, until_us: u64) -> bool {
        let known = self.upstream.get(gateway).map_or(&[][..], Vec::as_slice);
        let before = known.partition_point(|(at_us, _)| *at_us <= from_us);
        let Some(&(since_us, true)) = before.checked_sub(1).map(|last| &known[last]) else { return false };
        let stays = known[before..].iter().take_while(|(at_us, _)| *at_us <= until_us).all(|(_, live)| *live);
        let strikes = |struck: &Strikes<'_>| match struck {
            Strikes::One(one) => *one == "brokers" || *one == gateway || self.hubs.contains(one),
            Strikes::Between(a, b) => {
                *a == gateway && self.hubs.contains(b) || *b == gateway && self.hubs.contains(a)
            }
        };
        let turned = |name: &str| self.turned(name, since_us, until_us);
        let turns = turned(gateway) || self.hubs.iter().any(|hub| turned(hub));
        stays && !turns && !self.has_fault(since_us, until_us, strikes)
    }

    /// Whether the reader of a stream paused in this time, or just before it.
    pub(super) fn paused(&self, stream: StreamId, from_us: u64, until_us: u64) -> bool {
        let pauses = self.pauses.get(&stream).map_or(&[][..], Vec::as_slice);
        let from_us = from_us.saturating_sub(AFTER_A_PAUSE_US);
        pauses.iter().any(|pause| pause.from_us <= until_us && pause.until_us >= from_us)
    }

    /// Whether the reader of a stream stopped for so long, by this time, that it may have been given up.
    pub(super) fn stopped(&self, stream: StreamId, until_us: u64) -> bool {
        let mut pauses = self.pauses.get(&stream).into_iter().flatten();
        pauses.any(|pause| pause.from_us <= until_us && pause.until_us >= pause.from_us + GIVEN_UP_US)
    }

    /// The last pause of a stream, if it was over at this time.
    pub(super) fn last_pause(&self, stream: StreamId, at_us: u64) -> Option<Paused> {
        let pauses = self.pauses.get(&stream)?;
        let last = pauses.iter().rev().find(|pause| pause.from_us <= at_us);
        last.filter(|pause| pause.until_us <= at_us).copied()
    }

    /// Whether nothing lay between the reader of a stream and its server, and nothing befell the reader itself.
    pub(super) fn is_linked(&self, process: &str, from_us: u64, until_us: u64) -> bool {
        let strikes = |struck: &Strikes<'_>| match struck {
            Strikes::One(one) => *one == process,
            Strikes::Between(a, b) => *a == process || *b == process,
        };
        !self.has_fault(from_us, until_us, strikes)
    }

    /// The hub that a gateway's stream is at, if that is known.
    pub(super) fn hub_of(&self, open: &'h Open) -> Option<&'h str> {
        let only = || (self.hubs.len() == 1).then(|| self.hubs.iter().next().copied()).flatten();
        open.at.as_deref().or_else(only)
    }

    /// Whether this reader gives what it reads to a handler.
    pub(super) fn has_handler(&self, reader: &str) -> bool {
        self.handlers.contains(reader)
    }

    /// How often this process has been started or has ended by then.
    pub(super) fn life(&self, process: &str, at_us: u64) -> usize {
        self.turns.get(process).map_or(0, |turns| turns.partition_point(|turn| *turn <= at_us))
    }

    fn turned(&self, name: &str, from_us: u64, until_us: u64) -> bool {
        let turns = self.turns.get(name).map_or(&[][..], Vec::as_slice);
        turns.get(turns.partition_point(|turn| *turn < from_us)).is_some_and(|turn| *turn <= until_us)
    }

    fn has_fault(&self, from_us: u64, until_us: u64, strikes: impl Fn(&Strikes<'_>) -> bool) -> bool {
        let mut at_that_time =
            self.faults.iter().filter(|fault| fault.from_us <= until_us && fault.until_us >= from_us);
        at_that_time.any(|fault| strikes(&fault.strikes))
    }
}
