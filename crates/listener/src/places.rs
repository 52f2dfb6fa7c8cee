//! The places of a listener: how many connections it holds, and who gives way when there is no place left.
//!
//! Where peers show credentials, one that has shown none is a stranger. Strangers have places apart, so that they can
//! take none from others, and a bound per address. When theirs are full, the one that has asked nothing for longest goes.
//! Where nobody shows any, all are alike, and only those that ask nothing give way.
//!
//! Some places are kept back. A connection on one has a short time to show who it is, or to ask what is answered to
//! anybody at any time, such as a probe.

mod no_place;
#[cfg(test)]
mod tests;
mod visitor;

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use http::request::Parts;
use tokio::sync::Notify;
use tokio::time::{Instant, timeout};

use crate::Limits;
use crate::proxies::{Proxies, subscriber};
pub(crate) use visitor::{Begun, Place};
pub use visitor::{Full, GivenUp, Visitor};

/// Nobody gives way that came less long ago.
const YOUNG: Duration = Duration::from_secs(2);

/// A connection on a place that is kept back has this long.
const LEASH: Duration = Duration::from_secs(2);

/// Whoever takes nothing of a whole answer for this long is let go: the answer is no request under way.
const TAKEN_WITHIN: Duration = Duration::from_secs(5);

/// How long those who were told to give way may take, and how often it is looked who may be told next.
const LOOK_EVERY: Duration = Duration::from_millis(50);

/// Of those who could give way, one in so many is told at a time: to look at all of them for each one would take a core.
const GIVE_WAY_SHARE: usize = 64;

/// Who may take which places.
#[derive(Clone, Debug, Default)]
pub struct House {
    /// Places of those who have shown no credential; `None`: nobody needs to, and all are alike.
    pub strangers: Option<Strangers>,
    /// Places kept back for when all others are taken.
    pub kept: usize,
    /// Proxies, which bring many clients from one address.
    pub proxies: Proxies,
    /// What is answered on a place that is kept back where nobody needs to show anything; `None`: everything.
    pub always: Option<fn(&Parts) -> bool>,
    /// What the app itself gives a place to there ([`Visitor::becomes_known`]), or refuses in words of its own.
    pub app_refuses: Option<fn(&Parts) -> bool>,
}

/// The places of strangers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Strangers {
    /// All of them.
    pub places: usize,
    /// Those of one IPv4 address, or of one IPv6 network of 64 bits.
    pub per_address: usize,
}

/// The places of one listener. Cheap to clone: clones are the same places.
#[derive(Clone, Debug)]
pub struct Places(Arc<Inner>);

/// How many places of each kind there are, or are taken.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Taken {
    /// By those who have shown who they are, or need not.
    pub known: usize,
    /// By strangers.
    pub strangers: usize,
    /// Of those kept back.
    pub kept: usize,
}

#[derive(Debug)]
struct Inner {
    name: &'static str,
    known_max: usize,
    header_read: Duration,
    idle: Duration,
    house: House,
    origin: Instant,
    table: Mutex<Table>,
    /// Somebody left, or became known.
    changed: Notify,
}

#[derive(Debug, Default)]
struct Table {
    next: u64,
    /// Those who may be told to give way.
    visitors: BTreeMap<u64, Visitor>,
    taken: Taken,
    of_address: BTreeMap<IpAddr, usize>,
    /// Places of the known, by whose they are, where several are told apart. None of them is 0.
    of_known: BTreeMap<Arc<str>, usize>,
    is_full: bool,
}

/// Which place a connection has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Known,
    Stranger,
    Kept,
}

impl Places {
    /// The places of a listener, which is called `name` in logs.
    ///
    /// # Panics
    ///
    /// Outside a tokio runtime with time enabled.
    #[must_use]
    pub fn new(name: &'static str, limits: &Limits, house: House) -> Self {
        let limits = limits.reckonable();
        Self(Arc::new(Inner {
            name,
            known_max: limits.connections,
            header_read: limits.header_read,
            idle: limits.idle,
            house,
            origin: Instant::now(),
            table: Mutex::default(),
            changed: Notify::new(),
        }))
    }

    /// How many are taken now.
    #[must_use]
    pub fn taken(&self) -> Taken {
        self.lock().taken
    }

    /// How many there are.
    #[must_use]
    pub fn all(&self) -> Taken {
        let strangers = self.0.house.strangers.map_or(0, |strangers| strangers.places);
        Taken { known: self.0.known_max, strangers, kept: self.0.house.kept }
    }

    /// Returns once the next connection has a place. Cancel safe.
    pub(crate) async fn wait(&self) {
        loop {
            let changed = self.0.changed.notified();
            let room = {
                let mut table = self.lock();
                match self.kind(&table) {
                    Some(Kind::Known | Kind::Stranger) => return,
                    kept => {
                        self.say_full(&mut table);
                        if self.give_way(&table, None, 1) == 0 && kept.is_some() {
                            return;
                        }
                        kept
                    }
                }
            };
            let changed = timeout(LOOK_EVERY, changed).await;
            if room.is_some() && changed.is_err() {
                return; // they take their time, and there is a place that is kept back
            }
        }
    }

    /// A place for a connection that was accepted. `None`: its address has as many as it may, all of them new.
    pub(crate) fn enter(&self, address: IpAddr) -> Option<Place> {
        // A proxy is named by its own address, or network.
        let is_proxy = self.0.house.proxies.trust(address);
        let address = subscriber(address);
        let mut table = self.lock();
        let kind = self.kind(&table).unwrap_or(Kind::Kept); // since it was waited for
        let counted = self.0.house.strangers.filter(|_| !is_proxy);
        if let Some(strangers) = counted {
            let more = (table.of_address.get(&address).copied().unwrap_or(0) + 1)
                .saturating_sub(strangers.per_address);
            if more > 0 && self.give_way(&table, Some(address), more) < more {
                return None;
            }
        }
        table.next += 1;
        let id = table.next;
        let address = counted.map(|_| address);
        if let Some(address) = address {
            *table.of_address.entry(address).or_default() += 1;
        }
        *table.of(kind) += 1;
        let visitor = Visitor::new(self.clone(), id, kind, address);
        table.visitors.insert(id, visitor.clone());
        let most = self.all();
        if table.is_full
            && table.taken.known < most.known - most.known / 8
            && table.taken.strangers <= most.strangers - most.strangers / 8
        {
            table.is_full = false;
            tracing::info!(listener = self.0.name, "there are places again");
        }
        Some(Place::new(visitor))
    }

    /// Which place the next connection would have.
    fn kind(&self, table: &Table) -> Option<Kind> {
        let first = match self.0.house.strangers {
            Some(strangers) => (table.taken.strangers < strangers.places).then_some(Kind::Stranger),
            None => (table.taken.known < self.0.known_max).then_some(Kind::Known),
        };
        first.or_else(|| (table.taken.kept < self.0.house.kept).then_some(Kind::Kept))
    }

    /// Tells those that have asked nothing for longest to give way, so many at least; how many were told, now or a moment
    /// ago.
    fn give_way(&self, table: &Table, address: Option<IpAddr>, least: usize) -> usize {
        let now = self.now_ms();
        let of_address = |visitor: &&Visitor| address.is_none() || visitor.address() == address;
        let could = table.visitors.values().filter(of_address).filter(|visitor| visitor.may_go(now));
        let (going, mut could): (Vec<_>, Vec<_>) = could.partition(|visitor| visitor.is_gone());
        if going.len() >= least {
            return going.len();
        }
        could.sort_unstable_by_key(|visitor| visitor.asked_at());
        could.truncate((could.len() / GIVE_WAY_SHARE).max(least - going.len()));
        could.iter().for_each(|visitor| visitor.go());
        going.len() + could.len()
    }

    fn say_full(&self, table: &mut Table) {
        if !std::mem::replace(&mut table.is_full, true) {
            let Taken { known, strangers, kept } = table.taken;
            tracing::warn!(
                listener = self.0.name,
                known,
                strangers,
                kept,
                "every place is taken: whoever has asked nothing for longest gives way, and newcomers may have to wait"
            );
        }
    }

    /// Moves a connection that has shown who it is, if there is a place. `whose`: who must leave some to others.
    fn make_known(&self, visitor: &Visitor, whose: Option<&Arc<str>>) -> Result<(), Full> {
        let mut table = self.lock();
        let kind = visitor.kind();
        if kind == Kind::Known || !table.visitors.contains_key(&visitor.id()) {
            return Ok(()); // or it has gone
        }
        let Some(free) = self.0.known_max.checked_sub(table.taken.known + 1) else {
            self.say_full(&mut table);
            return Err(Full::Everybody);
        };
        if let Some(whose) = whose {
            let own = table.of_known.get(whose).copied().unwrap_or_default();
            if own + 1 > free.max(1) {
                return Err(Full::Own);
            }
            table.of_known.insert(whose.clone(), own + 1);
            visitor.belongs_to(whose);
        }
        *table.of(kind) -= 1;
        table.taken.known += 1;
        table.forget_address(visitor);
        visitor.set_known();
        drop(table);
        self.0.changed.notify_one();
        Ok(())
    }

    fn leave(&self, visitor: &Visitor) {
        let mut table = self.lock();
        if table.visitors.remove(&visitor.id()).is_some() {
            let kind = visitor.kind();
            *table.of(kind) -= 1;
            if kind != Kind::Known {
                table.forget_address(visitor);
            }
            if let Some(whose) = visitor.whose()
                && let Some(own) = table.of_known.get_mut(whose)
            {
                *own -= 1;
                if *own == 0 {
                    table.of_known.remove(whose);
                }
            }
        }
        drop(table);
        self.0.changed.notify_one();
    }

    fn now_ms(&self) -> u64 {
        u64::try_from(self.0.origin.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    fn at(&self, ms: u64) -> Instant {
        self.0.origin + Duration::from_millis(ms)
    }

    fn lock(&self) -> MutexGuard<'_, Table> {
        self.0.table.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Table {
    fn of(&mut self, kind: Kind) -> &mut usize {
        match kind {
            Kind::Known => &mut self.taken.known,
            Kind::Stranger => &mut self.taken.strangers,
            Kind::Kept => &mut self.taken.kept,
        }
    }

    fn forget_address(&mut self, visitor: &Visitor) {
        let Some(address) = visitor.address() else { return };
        if let Some(count) = self.of_address.get_mut(&address) {
            *count -= 1;
            if *count == 0 {
                self.of_address.remove(&address);
            }
        }
    }
}
