//! The connection slots of a listener: how many connections it holds, and which one is closed when there is no slot left.
//!
//! | slot | who has one | how many |
//! |---|---|---|
//! | authenticated | peers that have shown a credential; everybody where nobody needs to | [`Limits::connections`] |
//! | anonymous | peers that have shown none yet, where credentials are needed | a number of their own, and one for each address |
//! | reserved | newcomers when all others are taken, for 2 s: to show who they are, or to ask what is always answered | a few |
//!
//! Anonymous peers have slots of their own so that they can take none from others. When those are full, the peer that was
//! idle for longest is evicted. Where nobody shows credentials all are alike, and only idle connections are evicted.
//!
//! ```text
//! 2 anonymous slots, taken by a (idle for 9 s) and b (idle for 3 s)
//! c connects    a is evicted; c has its slot once a has closed, or a reserved one if that takes longer than 50 ms
//! b shows a token that is known    it moves to an authenticated slot, and its anonymous one is free
//! ```
//!
//! `serve.rs` waits for a slot before it serves a connection; [`ConnectionHandle`] is the app's side of it.

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

/// A connection younger than this is not evicted: it has had no time to ask anything.
const EVICTABLE_AFTER: Duration = Duration::from_secs(2);

/// How long a connection may keep a reserved slot.
const RESERVED_FOR: Duration = Duration::from_secs(2);

/// A peer that reads nothing of a complete response for this long is idle: its request is over.
const READ_WITHIN: Duration = Duration::from_secs(5);

/// How long evicted connections may take to close, and how often the next ones are chosen.
const LOOK_EVERY: Duration = Duration::from_millis(50);

/// Of those that could be evicted, one in so many is evicted at a time: to look at all of them for each one would take a
/// whole core.
const EVICT_SHARE: usize = 64;

/// How many slots of which kind a listener has, and what is always answered.
#[derive(Clone, Debug, Default)]
pub struct SlotPolicy {
    /// Slots of peers that have shown no credential; `None`: nobody needs to, and all are alike.
    pub anonymous: Option<AnonymousSlots>,
    /// Slots reserved for when all others are taken.
    pub reserved: usize,
    /// Proxies, which bring many clients from one address.
    pub proxies: Proxies,
    /// Which requests are answered on a reserved slot where nobody needs to show anything; `None`: all.
    pub always: Option<fn(&Parts) -> bool>,
    /// Which requests the app decides about there: it calls [`ConnectionHandle::authenticate`], or refuses in its own words.
    pub app_decides: Option<fn(&Parts) -> bool>,
}

/// The slots of peers that have shown no credential.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AnonymousSlots {
    /// All of them.
    pub slots: usize,
    /// Those of one IPv4 address, or of one IPv6 network of 64 bits.
    pub per_address: usize,
}

/// The slots of one listener. Cheap to clone: clones are the same slots.
#[derive(Clone, Debug)]
pub struct ConnectionSlots(Arc<Inner>);

/// How many slots of each kind there are, or are taken.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SlotCounts {
    /// Of peers that have shown who they are, or need not.
    pub authenticated: usize,
    /// Of peers that have shown nothing yet.
    pub anonymous: usize,
    /// Of the reserved ones.
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
    /// A connection has closed, or moved to an authenticated slot.
    changed: Notify,
}

#[derive(Debug, Default)]
struct Table {
    next: u64,
    /// Every connection, in the order in which they were accepted: one of them may be evicted.
    connections: BTreeMap<u64, ConnectionHandle>,
    taken: SlotCounts,
    of_address: BTreeMap<IpAddr, usize>,
    /// Authenticated slots by identity, where several are told apart. None of them is 0.
    of_identity: BTreeMap<Arc<str>, usize>,
    is_full: bool,
}

/// Which kind of slot a connection has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum SlotKind {
    Authenticated,
    Anonymous,
    Reserved,
}

impl ConnectionSlots {
    /// The slots of a listener, which is called `name` in logs.
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

    /// Returns once there is a slot for the next connection, evicting idle ones if need be. Cancel safe.
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

    /// A slot for a connection that was accepted. `None`: its address has as many as it may, all of them too young to evict.
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

    /// Which kind of slot the next connection would have; `None`: there is none.
    fn kind(&self, table: &Table) -> Option<SlotKind> {
        let first = match self.0.policy.anonymous {
            Some(anonymous) => (table.taken.anonymous < anonymous.slots).then_some(SlotKind::Anonymous),
            None => (table.taken.authenticated < self.0.authenticated_max).then_some(SlotKind::Authenticated),
        };
        first.or_else(|| (table.taken.reserved < self.0.policy.reserved).then_some(SlotKind::Reserved))
    }

    /// Evicts the connections that were idle for longest, `least` of them at least. Returns how many are evicted, now or a
    /// moment ago.
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

    /// Moves a connection that has shown who it is to an authenticated slot. `whose`: an identity that must leave slots to
    /// others.
    ///
    /// # Errors
    ///
    /// There is none, or the identity has as many as it may.
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
