//! What is known of gateways: their lives, what each of them was told as missed, and the faults that strike them.
//!
//! Only where the rules say that the history tells all of it. What a gateway held is never seen; but it begins with what its
//! hub holds, takes everything that comes, and keeps it as long as the hub does. So it lacks what its hub had lost when it
//! began, and what it was told as missed, and nothing else.

use std::collections::HashMap;

use super::held::is_held;
use super::{Index, Pos};
use crate::history::{Fault, StreamId, What, WindowRule};

/// A gateway shows that it has gone to another log a moment after it did.
pub(in crate::checker) const SHOWS_WITHIN_US: u64 = 2_000_000;

/// See the module's head.
#[derive(Default)]
pub(in crate::checker) struct Edges {
    lives: HashMap<String, Vec<Life>>,
    faults: Vec<Trouble>,
}

/// One life of a process.
#[derive(Default)]
pub(in crate::checker) struct Life {
    pub(in crate::checker) began_us: u64,
    /// When it was killed.
    pub(in crate::checker) killed_us: Option<u64>,
    missed: Vec<Range>,
    /// When its first user was welcomed: since then it lets users in.
    pub(in crate::checker) serves_since_us: Option<u64>,
    /// The positions that its users were told, each further than those of its epoch before.
    told: Vec<(u64, Pos)>,
}

/// What a gateway may lack: behind the one position, up to the other, in two logs perhaps.
#[derive(Clone, Copy)]
struct Range {
    after: Option<Pos>,
    through: Option<Pos>,
}

/// A fault and whom it strikes.
struct Trouble {
    kind: String,
    detail: String,
    from_us: u64,
    until_us: u64,
}

impl Edges {
    pub(in crate::checker) fn new(index: &Index<'_>) -> Self {
        let (mut edges, mut at) = (Self::default(), HashMap::<StreamId, &str>::new());
        for record in index.records {
            let (at_us, process) = (record.at_us, &*record.process);
            match &record.what {
                What::Start => {
                    let life = Life { began_us: at_us, ..Life::default() };
                    edges.lives.entry(process.to_owned()).or_default().push(life);
                }
                What::Crash => {
                    let life = edges.lives.get_mut(process).and_then(|lives| lives.last_mut());
                    life.into_iter().for_each(|life| life.killed_us = Some(at_us));
                }
                What::Missed(missed) => {
                    let pos = |position| index.pos(position);
                    let (after, through) = (missed.after.as_ref().map(pos), missed.through.as_ref().map(pos));
                    let life = edges.lives.get_mut(process).and_then(|lives| lives.last_mut());
                    life.into_iter().for_each(|life| life.miss(Range { after, through }));
                }
                What::FaultStart(fault) => edges.begin(fault, at_us),
                What::FaultStop(fault) => edges.stop(fault, at_us),
                What::Open(open) => {
                    let gateway = open.at.as_deref().map(|gateway| (open.stream, gateway));
                    at.extend(gateway);
                }
                what => {
                    let gateway = what.stream().and_then(|stream| at.get(&stream));
                    let told = told_by(index, what);
                    if let (Some(gateway), Some(pos)) = (gateway, told) {
                        let opened_us = what.stream().map_or(0, |stream| index.opened_us(stream));
                        edges.tell(gateway, opened_us, at_us, pos);
                    }
                }
            }
        }
        edges
    }

    fn begin(&mut self, fault: &Fault, at_us: u64) {
        let (kind, detail) = (fault.kind.as_ref().to_owned(), fault.detail.clone());
        self.faults.push(Trouble { kind, detail, from_us: at_us, until_us: u64::MAX });
    }

    fn stop(&mut self, fault: &Fault, at_us: u64) {
        let same = |trouble: &&mut Trouble| {
            *trouble.kind == *fault.kind && trouble.detail == fault.detail && trouble.until_us == u64::MAX
        };
        let begun = self.faults.iter_mut().find(same);
        begun.into_iter().for_each(|trouble| trouble.until_us = at_us);
    }

    /// A user was told this, on a stream that was opened in the life in which its gateway knew it.
    fn tell(&mut self, gateway: &str, opened_us: u64, at_us: u64, pos: Pos) {
        let Some(life) = self.lives.get_mut(gateway).and_then(|lives| life_at(lives, opened_us)) else {
            return;
        };
        life.serves_since_us.get_or_insert(at_us);
        let before = life.told.iter().rfind(|(_, told)| told.epoch == pos.epoch);
        if before.is_none_or(|(_, told)| told.seq < pos.seq) {
            life.told.push((at_us, pos));
        }
    }

    /// The life of a process at this time, if it had begun one.
    pub(in crate::checker) fn life(&self, process: &str, at_us: u64) -> Option<&Life> {
        self.lives.get(process)?.iter().rfind(|life| life.began_us <= at_us)
    }

    /// The life of a gateway that serves a stream which was asked for and welcomed then, whatever became of the gateway since:
    /// what it sent may be read after it was killed. `None` if it began anew between the two.
    pub(in crate::checker) fn serving(
        &self,
        gateway: &str,
        opened_us: u64,
        welcomed_us: u64,
    ) -> Option<&Life> {
        let life = self.life(gateway, opened_us)?;
        let next_us = self.next_began_us(gateway, life);
        next_us.is_none_or(|next_us| welcomed_us < next_us).then_some(life)
    }

    /// When the life after that one began.
    pub(in crate::checker) fn next_began_us(&self, process: &str, life: &Life) -> Option<u64> {
        let mut lives = self.lives.get(process)?.iter();
        lives.find(|next| next.began_us > life.began_us).map(|next| next.began_us)
    }

    /// Whether a fault of this kind strikes this process in this time, or any kind if none is named.
    pub(in crate::checker) fn strikes(
        &self,
        kind: Option<&str>,
        process: &str,
        from_us: u64,
        until_us: u64,
    ) -> bool {
        self.faults.iter().any(|fault| {
            kind.is_none_or(|kind| kind == fault.kind)
                && fault.detail.split_whitespace().any(|word| word == process)
                && fault.from_us <= until_us
                && from_us <= fault.until_us
        })
    }
}

fn life_at(lives: &mut [Life], at_us: u64) -> Option<&mut Life> {
    lives.iter_mut().rfind(|life| life.began_us <= at_us)
}

/// What a frame shows that its gateway has come to.
fn told_by(index: &Index<'_>, what: &What) -> Option<Pos> {
    match what {
        What::Welcome(welcome) => Some(index.pos(&welcome.head)),
        What::Event(event) => event.position.as_ref().map(|position| index.pos(position)),
        _ => None,
    }
}

impl Life {
    fn miss(&mut self, range: Range) {
        match self.missed.last_mut().filter(|last| last.through.is_none() && last.after == range.after) {
            Some(last) => last.through = range.through,
            None => self.missed.push(range),
        }
    }

    /// How many gaps lie in its window at most.
    pub(in crate::checker) fn gaps(&self) -> u64 {
        self.missed.len() as u64
    }

    /// Whether it may have been told that it missed this.
    pub(in crate::checker) fn may_lack(&self, pos: Pos) -> bool {
        self.missed.iter().any(|Range { after, through }| {
            let (here, there) =
                (after.filter(|at| at.epoch == pos.epoch), through.filter(|at| at.epoch == pos.epoch));
            let in_either = here.or(there).is_some() || through.is_none();
            in_either && here.is_none_or(|at| at.seq < pos.seq) && there.is_none_or(|at| pos.seq <= at.seq)
        })
    }

    /// Whether it showed somebody, by this time, that it has come to this position.
    pub(in crate::checker) fn has_told(&self, pos: Pos, by_us: u64) -> bool {
        let earlier = self.told.iter().take_while(|(at_us, _)| *at_us < by_us);
        earlier.into_iter().any(|(_, told)| told.epoch == pos.epoch && pos.seq <= told.seq)
    }
}

/// Whether the window that a gateway had in one of its lives held this position for certain at this time. A gateway that has come
/// back to a log has cut its window there, and is not judged.
pub(in crate::checker) fn is_held_at(
    index: &Index<'_>,
    window: &WindowRule,
    (gateway, life): (&str, &Life),
    pos: Pos,
    at_us: u64,
) -> bool {
    let events = window.events.saturating_sub(life.gaps());
    let window = WindowRule { events, ..window.clone() };
    let visits = index.followed_in(gateway, life.began_us, at_us);
    let Some(first) = visits.first() else { return false };
    let Some(visit) = visits.iter().find(|visit| visit.epoch == pos.epoch) else { return false };
    let is_cut =
        (1..visits.len()).any(|later| visits[..later].iter().any(|v| v.epoch == visits[later].epoch));
    // What came of a later epoch takes places too.
    let is_last = visits.last().is_some_and(|last| last.epoch == pos.epoch);
    // It began with everything that its hub held then.
    let is_first = visit.epoch == first.epoch;
    let hub_held =
        |hub| is_held(index, hub, pos, visit.began_us) && is_held(index, &window, pos, visit.began_us);
    let came = pos.seq > visit.from || is_first && index.rules.window.as_ref().is_some_and(hub_held);
    !is_cut && is_last && came && !life.may_lack(pos) && is_held(index, &window, pos, at_us)
}
