//! The places of a listener: how many connections it holds, and who gives way when there is no place left.
//!
//! Where peers show credentials, one that has shown none is a stranger. Strangers have places apart, so that they can
//! take none from others, and a bound per address. When theirs are full, the one that has asked nothing for longest goes.
//! Where nobody shows any, all are alike, and only those that ask nothing give way.
//!
//! Some places are kept back. A connection on one has a short time to show who it is, or to ask what is answered to
//! anybody at any time, such as a probe.

mod connection;
mod no_slot;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use http::request::Parts;
use tokio::sync::Notify;
use tokio::time::{Instant, timeout};

use crate::limits::Limits;
use crate::proxies::{Proxies, subscriber};
pub use connection::{AbandonedResponse, ConnectionHandle, NoSlot};
pub(crate) use connection::{ActiveRequest, SlotGuard};

/// Nobody gives way that came less long ago.
const EVICTABLE_AFTER: Duration = Duration::from_secs(2);

/// A connection on a place that is kept back has this long.
const RESERVED_FOR: Duration = Duration::from_secs(2);

/// Whoever takes nothing of a whole answer for this long is let go: the answer is no request under way.
const READ_WITHIN: Duration = Duration::from_secs(5);

/// How long those who were told to give way may take, and how often it is looked who may be told next.
const LOOK_EVERY: Duration = Duration::from_millis(50);

/// Of those who could give way, one in so many is told at a time: to look at all of them for each one would take a core.
const EVICT_SHARE: usize = 64;

/// Who may take which places.
#[derive(Clone, Debug, Default)]
pub struct SlotPolicy {
    /// Places of those who have shown no credential; `None`: nobody needs to, and all are alike.
    pub anonymous: Option<AnonymousSlots>,
    /// Places kept back for when all others are taken.
    pub reserved: usize,
    /// Proxies, which bring many clients from one address.
    pub proxies: Proxies,
    /// What is answered on a place that is kept back where nobody needs to show anything; `None`: everything.
    pub always: Option<fn(&Parts) -> bool>,
    /// What the app itself gives a place to there ([`ConnectionHandle::authenticate`]), or refuses in words of its own.
    pub app_decides: Option<fn(&Parts) -> bool>,
}

/// The places of strangers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AnonymousSlots {
    /// All of them.
    pub slots: usize,
    /// Those of one IPv4 address, or of one IPv6 network of 64 bits.
    pub per_address: usize,
}

/// The places of one listener. Cheap to clone: clones are the same places.
#[derive(Clone, Debug)]
pub struct ConnectionSlots(Arc<Inner>);

/// How many places of each kind there are, or are taken.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SlotCounts {
    /// By those who have shown who they are, or need not.
    pub authenticated: usize,
    /// By strangers.
    pub anonymous: usize,
    /// Of those kept back.
    pub reserved: usize,
}

#[derive(Debug)]
struct Inner {
    name: &'static str,
    authenticated_max: usize,
    header_read: Duration,
    idle: Duration,
    policy: SlotPolicy,
    origin: Instant,
    table: Mutex<Table>,
    /// Somebody left, or became known.
    changed: Notify,
}

#[derive(Debug, Default)]
struct Table {
    next: u64,
    /// Those who may be told to give way.
    connections: BTreeMap<u64, ConnectionHandle>,
    taken: SlotCounts,
    of_address: BTreeMap<IpAddr, usize>,
    /// Places of the known, by whose they are, where several are told apart. None of them is 0.
    of_identity: BTreeMap<Arc<str>, usize>,
    is_full: bool,
}

/// Which place a connection has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum SlotKind {
    Authenticated,
    Anonymous,
    Reserved,
}

impl ConnectionSlots {
    /// The places of a listener, which is called `name` in logs.
    ///
    /// # Panics
    ///
    /// Outside a tokio runtime with time enabled.
    #[must_use]
    pub fn new(name: &'static str, limits: &Limits, policy: SlotPolicy) -> Self {
        let limits = limits.clamped();
        Self(Arc::new(Inner {
            name,
            authenticated_max: limits.connections,
            header_read: limits.header_read,
            idle: limits.idle,
            policy,
            origin: Instant::now(),
            table: Mutex::default(),
            changed: Notify::new(),
        }))
    }

    /// How many are taken now.
    #[must_use]
    pub fn taken(&self) -> SlotCounts {
        self.lock().taken
    }

    /// How many there are.
    #[must_use]
    pub fn all(&self) -> SlotCounts {
        let anonymous = self.0.policy.anonymous.map_or(0, |anonymous| anonymous.slots);
        SlotCounts { authenticated: self.0.authenticated_max, anonymous, reserved: self.0.policy.reserved }
    }

    /// Returns once the next connection has a place. Cancel safe.
    pub(crate) async fn wait(&self) {
        loop {
            let changed = self.0.changed.notified();
            let room = {
                let mut table = self.lock();
                match self.kind(&table) {
                    Some(SlotKind::Authenticated | SlotKind::Anonymous) => return,
                    reserved => {
                        self.say_full(&mut table);
                        if self.evict_idle(&table, None, 1) == 0 && reserved.is_some() {
                            return;
                        }
                        reserved
                    }
                }
            };
            let changed = timeout(LOOK_EVERY, changed).await;
            if room.is_some() && changed.is_err() {
                return; // they take their time, and there is a slot that is reserved back
            }
        }
    }

    /// A place for a connection that was accepted. `None`: its address has as many as it may, all of them new.
    pub(crate) fn enter(&self, address: IpAddr) -> Option<SlotGuard> {
        // A proxy is named by its own address, or network.
        let is_proxy = self.0.policy.proxies.trust(address);
        let address = subscriber(address);
        let mut table = self.lock();
        let kind = self.kind(&table).unwrap_or(SlotKind::Reserved); // since it was waited for
        let counted = self.0.policy.anonymous.filter(|_| !is_proxy);
        if let Some(anonymous) = counted {
            let more = (table.of_address.get(&address).copied().unwrap_or(0) + 1)
                .saturating_sub(anonymous.per_address);
            if more > 0 && self.evict_idle(&table, Some(address), more) < more {
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
        let connection = ConnectionHandle::new(self.clone(), id, kind, address);
        table.connections.insert(id, connection.clone());
        let most = self.all();
        if table.is_full
            && table.taken.authenticated < most.authenticated - most.authenticated / 8
            && table.taken.anonymous <= most.anonymous - most.anonymous / 8
        {
            table.is_full = false;
            tracing::info!(listener = self.0.name, "there are places again");
        }
        Some(SlotGuard::new(connection))
    }

    /// Which place the next connection would have.
    fn kind(&self, table: &Table) -> Option<SlotKind> {
        let first = match self.0.policy.anonymous {
            Some(anonymous) => (table.taken.anonymous < anonymous.slots).then_some(SlotKind::Anonymous),
            None => (table.taken.authenticated < self.0.authenticated_max).then_some(SlotKind::Authenticated),
        };
        first.or_else(|| (table.taken.reserved < self.0.policy.reserved).then_some(SlotKind::Reserved))
    }

    /// Tells those that have asked nothing for longest to give way, so many at least; how many were told, now or a moment
    /// ago.
    fn evict_idle(&self, table: &Table, address: Option<IpAddr>, least: usize) -> usize {
        let now = self.now_ms();
        let of_address =
            |connection: &&ConnectionHandle| address.is_none() || connection.address() == address;
        let could =
            table.connections.values().filter(of_address).filter(|connection| connection.is_evictable(now));
        let (going, mut could): (Vec<_>, Vec<_>) = could.partition(|connection| connection.is_evicted());
        if going.len() >= least {
            return going.len();
        }
        could.sort_unstable_by_key(|connection| connection.last_active_ms());
        could.truncate((could.len() / EVICT_SHARE).max(least - going.len()));
        could.iter().for_each(|connection| connection.evict());
        going.len() + could.len()
    }

    fn say_full(&self, table: &mut Table) {
        if !std::mem::replace(&mut table.is_full, true) {
            let SlotCounts { authenticated, anonymous, reserved } = table.taken;
            tracing::warn!(
                listener = self.0.name,
                known = authenticated,
                strangers = anonymous,
                kept = reserved,
                "every place is taken: whoever has asked nothing for longest gives way, and newcomers may have to wait"
            );
        }
    }

    /// Moves a connection that has shown who it is, if there is a place. `whose`: who must leave some to others.
    fn authenticate(&self, connection: &ConnectionHandle, whose: Option<&Arc<str>>) -> Result<(), NoSlot> {
        let mut table = self.lock();
        let kind = connection.kind();
        if kind == SlotKind::Authenticated || !table.connections.contains_key(&connection.id()) {
            return Ok(()); // or it has gone
        }
        let Some(free) = self.0.authenticated_max.checked_sub(table.taken.authenticated + 1) else {
            self.say_full(&mut table);
            return Err(NoSlot::All);
        };
        if let Some(whose) = whose {
            let own = table.of_identity.get(whose).copied().unwrap_or_default();
            if own + 1 > free.max(1) {
                return Err(NoSlot::Own);
            }
            table.of_identity.insert(whose.clone(), own + 1);
            connection.belongs_to(whose);
        }
        *table.of(kind) -= 1;
        table.taken.authenticated += 1;
        table.forget_address(connection);
        connection.set_authenticated();
        drop(table);
        self.0.changed.notify_one();
        Ok(())
    }

    fn leave(&self, connection: &ConnectionHandle) {
        let mut table = self.lock();
        if table.connections.remove(&connection.id()).is_some() {
            let kind = connection.kind();
            *table.of(kind) -= 1;
            if kind != SlotKind::Authenticated {
                table.forget_address(connection);
            }
            if let Some(whose) = connection.whose()
                && let Some(own) = table.of_identity.get_mut(whose)
            {
                *own -= 1;
                if *own == 0 {
                    table.of_identity.remove(whose);
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
    fn of(&mut self, kind: SlotKind) -> &mut usize {
        match kind {
            SlotKind::Authenticated => &mut self.taken.authenticated,
            SlotKind::Anonymous => &mut self.taken.anonymous,
            SlotKind::Reserved => &mut self.taken.reserved,
        }
    }

    fn forget_address(&mut self, connection: &ConnectionHandle) {
        let Some(address) = connection.address() else { return };
        if let Some(count) = self.of_address.get_mut(&address) {
            *count -= 1;
            if *count == 0 {
                self.of_address.remove(&address);
            }
        }
    }
}
