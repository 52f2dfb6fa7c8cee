//! What standing records do to a user: memberships add topics, invalidations end sessions.
//!
//! Both count in their place in the log of one epoch: whoever was a member when an event was appended, and is one, is owed
//! it, be it by the same membership or by another. When a gateway came to know of a later change nobody can tell, except
//! that it knew what lay before the head it named in its `Welcome`, and before the event itself; so around an end an event
//! may be shown or not.

use std::collections::HashMap;

use super::Right;
use crate::checker::index::{Index, Pos, following::Visit};
use crate::checker::log::{Entry, Record};
use crate::history::{Hop, Open, Says};

/// Around the end of a record, and around the second in which a token was issued, nothing is certain.
const ROUNDING_US: u64 = 1_100_000;

/// Tokens say in which second they were issued.
const SECOND_US: u64 = 1_000_000;

/// A record of a session voids every token of it that was issued up to so much later: the issuer's clock may be ahead.
const SKEW_US: u64 = 30_000_000;

/// The standing records that concern one stream.
pub(in crate::checker) struct Governed<'h> {
    memberships: Vec<Membership<'h>>,
    /// By epoch, in the order of the log: what ends its sessions.
    voids: HashMap<u32, Vec<Mark>>,
    /// When its token was issued; where there is none, when it came.
    token_us: Option<u64>,
    /// There is one.
    has_token: bool,
    /// When its stream was asked for: nothing was sent on it before.
    opened_us: u64,
    /// What its gateway had of the log when the stream was opened.
    known: Option<Pos>,
    /// How far the wall clocks may be from the truth.
    skew_us: u64,
}

struct Membership<'h> {
    recipient: &'h str,
    /// The recipients it stands for, as numbers of the index, in order.
    numbers: Vec<u32>,
    epoch: u32,
    /// Its gateway follows that log at some time in the life in which the stream was opened.
    is_followed: bool,
    /// In the order of the log.
    marks: Vec<Mark>,
    /// What would end it and does not count: whether its gateway believes that nobody can tell.
    doubts: Vec<Mark>,
}

/// A record at its place.
#[derive(Clone, Copy)]
struct Mark {
    seq: u64,
    at_us: u64,
    holds: bool,
    until_us: Option<u64>,
    /// It voids what was issued before this.
    before_us: u64,
    /// It says so itself, so that is no whole second.
    is_explicit: bool,
    /// It is about a session.
    of_session: bool,
    /// It is a record of the log. If not, whoever cannot judge it may believe it.
    counts: bool,
}

impl Mark {
    fn of(record: &Record<'_>, holder: &str, counts: bool) -> Self {
        Self {
            seq: record.seq(),
            at_us: record.at_us,
            holds: !matches!(record.said.says, Says::Member { member: false, .. }),
            until_us: record.said.until_us,
            before_us: record.before_us(),
            is_explicit: record.is_explicit(),
            of_session: holder.starts_with("session:"),
            counts,
        }
    }

    fn lasts(&self, beyond_us: u64) -> bool {
        self.until_us.is_none_or(|until| beyond_us < until)
    }
}

impl<'h> Governed<'h> {
    pub(in crate::checker) fn new(index: &Index<'h>, open: &'h Open) -> Self {
        let skew_us = index.rules.clock_skew_us;
        let mut governed = Self {
            memberships: Vec::new(),
            voids: HashMap::new(),
            token_us: None,
            has_token: false,
            opened_us: index.opened_us(open.stream),
            known: None,
            skew_us,
        };
        if open.hop == Hop::Gateway {
            return governed;
        }
        let life = open.at.as_deref().map_or(&[][..], |gateway| index.life_of(gateway, open.stream));
        for (epoch, log) in (0..).zip(&index.logs) {
            let is_followed = life.iter().any(|visit| visit.epoch == epoch);
            let is_own = |holder: &str| open.recipients.iter().any(|own| &**own == holder);
            for ((holder, recipient), records) in log.records.iter().filter(|((holder, _), _)| is_own(holder))
            {
                let marks = records.iter().map(|record| Mark::of(record, holder, true));
                match recipient {
                    None => marks.for_each(|mark| governed.void(index, open, epoch, mark)),
                    Some(recipient) => {
                        let (numbers, marks) = (index.matching(recipient), marks.collect());
                        let doubts = log.in_doubt((holder, Some(recipient)), u64::MAX);
                        let doubts = doubts.map(|record| Mark::of(record, holder, false)).collect();
                        governed.memberships.push(Membership {
                            recipient,
                            numbers,
                            epoch,
                            is_followed,
                            marks,
                            doubts,
                        });
                    }
                }
            }
            let voids =
                log.uncounted.iter().filter(|((holder, member), _)| member.is_none() && is_own(holder));
            for ((holder, _), records) in voids {
                let marks = records.iter().map(|record| Mark::of(record, holder, false));
                marks.for_each(|mark| governed.void(index, open, epoch, mark));
            }
        }
        governed
    }

    /// A record that ends its sessions counts behind its place, and in whatever logs its gateway followed afterwards: there
    /// the gateway keeps what it knows of them.
    fn void(&mut self, index: &Index<'_>, open: &Open, epoch: u32, mark: Mark) {
        self.voids.entry(epoch).or_default().push(mark);
        let Some(gateway) = open.at.as_deref() else { return };
        let life = index.life_of(gateway, open.stream);
        // If its gateway began anew meanwhile, it knows of nothing that an earlier life was told.
        let mark = Mark { counts: mark.counts && index.is_served_in_one_life(gateway, open.stream), ..mark };
        let knew = |visit: &Visit| visit.epoch == epoch && visit.left.is_some_and(|left| mark.seq <= left);
        let Some(knew) = life.iter().position(knew) else { return };
        for visit in life.iter().skip(knew + 1).filter(|visit| visit.epoch != epoch) {
            self.voids.entry(visit.epoch).or_default().push(Mark { seq: visit.from, ..mark });
        }
    }

    /// A token issued then is presented.
    pub(in crate::checker) const fn issued(&mut self, at_us: u64) {
        (self.token_us, self.has_token) = (Some(at_us), true);
    }

    /// When its token was issued, if it presented one.
    pub(in crate::checker) fn token_issued_us(&self) -> Option<u64> {
        self.token_us.filter(|_| self.has_token)
    }

    /// Whether a record that was appended in this time may have ended its session, wherever that lies in whatever log.
    pub(in crate::checker) fn may_have_ended(&self, from_us: u64, until_us: u64) -> bool {
        let slack_us = ROUNDING_US + self.skew_us;
        self.token_us.is_some_and(|issued_us| {
            // When somebody comes to believe what does not count nobody can tell.
            let in_time = |mark: &&Mark| mark.at_us <= until_us && (from_us <= mark.at_us || !mark.counts);
            let mut marks = self.voids.values().flatten().filter(in_time);
            marks.any(|mark| issued_us <= self.voids_before(mark) + slack_us)
        })
    }

    /// When a record first ended its session for certain, of those at or behind a place that were appended since it was
    /// welcomed: in this epoch, and if it holds for so long more.
    pub(in crate::checker) fn ended_us(&self, from: Pos, since_us: u64, lasts_us: u64) -> Option<u64> {
        let issued_us = self.token_us?;
        let slack_us = ROUNDING_US + self.skew_us;
        let mut marks: Vec<_> = self.voids.get(&from.epoch).into_iter().flatten().collect();
        marks.sort_by_key(|mark| mark.seq);
        let ends = |mark: &&&Mark| {
            mark.counts
                && mark.seq > from.seq
                && mark.at_us > since_us
                && issued_us < self.voids_before(mark).saturating_sub(slack_us)
                && mark.lasts(mark.at_us + lasts_us + slack_us)
        };
        marks.iter().find(ends).map(|mark| mark.at_us)
    }

    /// Whether some record may void a token that was issued then, wherever it lies in whatever log.
    pub(in crate::checker) fn may_be_void(&self, issued_us: u64) -> bool {
        self.voids.values().flatten().any(|mark| {
            // A token says the second of its issue: inside of it nobody can tell before from after.
            let second_us = if mark.is_explicit { SECOND_US } else { 0 };
            issued_us <= self.voids_before(mark) + second_us + self.skew_us
        })
    }

    /// The gateway named its head. Without a token the connection itself counts as one.
    pub(in crate::checker) fn welcomed(&mut self, head: Pos, at_us: u64) {
        self.known = Some(head);
        self.token_us.get_or_insert(at_us);
    }

    /// All recipients that memberships may add.
    pub(in crate::checker) fn recipients(&self) -> impl Iterator<Item = &'h str> {
        self.memberships.iter().map(|membership| membership.recipient)
    }

    /// The same, as numbers of the index.
    pub(in crate::checker) fn numbers(&self) -> impl Iterator<Item = &u32> {
        self.memberships.iter().flat_map(|membership| &membership.numbers)
    }

    /// What memberships give it of an entry.
    pub(in crate::checker) fn right(
        &self,
        index: &Index<'_>,
        pos: Pos,
        entry: &Entry<'_>,
        at_us: u64,
    ) -> Right {
        let concerned = self
            .memberships
            .iter()
            .filter(|membership| entry.to.iter().any(|to| membership.numbers.binary_search(to).is_ok()));
        let (mut then, mut now) = (Right::None, Right::None);
        for membership in concerned {
            if membership.epoch == pos.epoch {
                then = then.max(membership.then(pos, entry.at_us, self));
                now = now.max(membership.now(pos, entry.at_us, at_us, self));
            } else if membership.is_followed {
                // Its gateway may have gone to that log since: then what that says is what holds now.
                let begin = Pos { epoch: membership.epoch, seq: 0 };
                now = now.max(membership.now(begin, entry.at_us, at_us, self).min(Right::Maybe));
            }
        }
        match then.min(now) {
            // A hub that begins anew has forgotten its memberships, and a gateway that goes to another log those of the first.
            Right::Owed if index.is_over(pos.epoch, at_us) || index.has_several_logs() => Right::Maybe,
            right => right,
        }
    }

    /// No more than this, once its session may have ended.
    pub(in crate::checker) fn at_most(&self, pos: Pos, at_us: u64) -> Right {
        if self.is_void(pos, at_us) {
            Right::None
        } else if self
            .void_before(pos)
            .any(|mark| self.is_issued_before(self.voids_before(mark) + ROUNDING_US + self.skew_us))
        {
            Right::Maybe
        } else {
            Right::Owed
        }
    }

    /// Whether this lies behind a record that voids the token for certain.
    pub(in crate::checker) fn is_void(&self, pos: Pos, at_us: u64) -> bool {
        self.void_before(pos).any(|mark| {
            let certain = self.voids_before(mark).saturating_sub(ROUNDING_US + self.skew_us);
            mark.counts && self.is_issued_before(certain) && mark.lasts(at_us.saturating_add(self.skew_us))
        })
    }

    fn void_before(&self, pos: Pos) -> impl Iterator<Item = &Mark> {
        self.voids.get(&pos.epoch).into_iter().flatten().filter(move |mark| mark.seq < pos.seq)
    }

    /// Tokens issued before this are void, as exactly as seconds are.
    fn voids_before(&self, mark: &Mark) -> u64 {
        let skew = if mark.of_session && self.has_token { SKEW_US } else { 0 };
        mark.before_us + skew
    }

    /// How far the times of a record and of an event may be apart by mistake.
    const fn slack_us(&self) -> u64 {
        ROUNDING_US + self.skew_us
    }

    fn is_issued_before(&self, at_us: u64) -> bool {
        self.token_us.is_some_and(|issued| issued < at_us)
    }
}

impl Membership<'_> {
    /// Whether it held when an entry was appended.
    fn then(&self, pos: Pos, appended_us: u64, governed: &Governed<'_>) -> Right {
        let slack_us = governed.slack_us();
        let later = self.marks.partition_point(|mark| mark.seq < pos.seq);
        match later.checked_sub(1).map(|held| self.marks[held]) {
            Some(mark) if mark.holds && mark.lasts(appended_us.saturating_add(slack_us)) => Right::Owed,
            Some(mark) if mark.holds && mark.lasts(appended_us.saturating_sub(slack_us)) => Right::Maybe,
            _ => Right::None,
        }
    }

    /// Whether it holds when its gateway is about to send an entry, whatever that knows of the log by then.
    fn now(&self, pos: Pos, appended_us: u64, at_us: u64, governed: &Governed<'_>) -> Right {
        let slack_us = governed.slack_us();
        let known = governed.known.filter(|known| known.epoch == self.epoch).map_or(0, |known| known.seq);
        let known = self.marks.partition_point(|mark| mark.seq <= known || mark.seq < pos.seq);
        let later = self.marks[known..].iter().take_while(|mark| mark.at_us <= at_us);
        let may_be = || known.checked_sub(1).map(|last| &self.marks[last]).into_iter().chain(later.clone());
        let certain = |mark: &Mark| mark.holds && mark.lasts(at_us.saturating_add(slack_us));
        // It may have been sent long before it was received, but not before it was there and its stream asked for.
        let sent_us = appended_us.max(governed.opened_us);
        let possible = |mark: &Mark| mark.holds && mark.lasts(sent_us.saturating_sub(slack_us));
        let present = known.checked_sub(1).map_or(0, |last| self.marks[last].seq);
        let is_in_doubt = || self.doubts.iter().any(|doubt| doubt.seq > present && doubt.at_us <= at_us);
        if known > 0 && may_be().all(certain) {
            if is_in_doubt() { Right::Maybe } else { Right::Owed }
        } else if may_be().any(possible) {
            Right::Maybe
        } else {
            Right::None
        }
    }
}
