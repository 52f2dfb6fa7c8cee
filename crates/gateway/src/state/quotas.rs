//! What one user, one address and all together may have of this gateway: connections, resumes, and work.
//!
//! The numbers of connections and resumes are bounded where a limit was set. The work of replays is shared out always: a
//! connection that reads the window from an old position costs time for every entry it passes over, and nothing but its
//! user decides how often it does so. Each user has a part of one core for that; beyond it, their connections wait their
//! turn, and nobody else's do. What is live is not counted.
//!
//! Work is computed, not measured, so that a simulation and a busy machine come to the same: in the time that it takes a
//! core of the year 2026.
//!
//! ```text
//! ann, whose part is an eighth of a core, with one second of work in advance
//! 0 s     she replays 6,600,000 entries at 150 ns: one second of work, done at once
//! then    she may do 10 ms of work every 80 ms
//! or      she does nothing for 8 s, and has a second in advance again
//! ```
//!
//! Bounded by the users with a connection, and those who owe for work they were given.

use std::collections::{BTreeMap, VecDeque};
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use galaxy_push_core::rate::Rate;
use galaxy_push_listener::subscriber;

use super::grants::Identity;
use super::refusal::{Limit, Refusal};

#[cfg(test)]
mod tests;

/// One user's replays have this part of a core …
const PART_OF_A_CORE: u32 = 8;

/// … and so much at once, which is several whole windows.
const AT_ONCE: Duration = Duration::from_secs(1);

/// To open a connection, from its first byte to its last.
const OPENING: Duration = Duration::from_micros(200);

/// To pass over one entry of the window.
const PER_ENTRY: Duration = Duration::from_nanos(150);

/// To hand out this many bytes takes as long as to pass over an entry.
const BYTES_PER_ENTRY: u64 = 128;

/// So much work is done in one turn: little at first, since most replays are short.
const FIRST_TURN: Duration = Duration::from_millis(1);
const TURN: Duration = Duration::from_millis(10);

/// Who would have to wait longer than this for its opening is told to come back.
const OPENING_WITHIN: Duration = Duration::from_secs(5);

/// So many of those who have closed everything are looked at, whenever somebody comes or goes, whether they still owe.
const CHECKED_AT_ONCE: usize = 4;

/// What users may have of one gateway; `None`: as much as they like. A user is whom a token names as `sub`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct UserLimits {
    /// Connections in all.
    pub connections: Option<u32>,
    /// Connections of one user.
    pub connections_per_user: Option<u32>,
    /// Connections from one address; of IPv6, from one network of 64 bits.
    pub connections_per_address: Option<u32>,
    /// Connections per second with which one user resumes: all but those that begin at the head.
    pub resumes_per_second: Option<u32>,
}

/// The accounts of one gateway.
#[derive(Debug)]
pub(crate) struct Quotas {
    limits: UserLimits,
    accounts: Mutex<Accounts>,
}

#[derive(Debug, Default)]
struct Accounts {
    connections: u32,
    addresses: BTreeMap<IpAddr, u32>,
    users: BTreeMap<Arc<str>, User>,
    /// Users who have closed everything and may still owe, each of them once.
    closed: VecDeque<Arc<str>>,
    /// The latest time that is known here.
    now: Duration,
}

#[derive(Debug)]
struct User {
    connections: u32,
    resumes: Rate,
    /// When the part of a core would have done all the work counted so far.
    worked: Duration,
    /// It is among those who have closed everything.
    is_closed: bool,
}

/// What one connection has of it. Dropping it gives everything back but the work that was done.
#[derive(Debug)]
pub(crate) struct Share {
    quotas: Option<Arc<Quotas>>,
    user: Option<Arc<str>>,
    address: Option<IpAddr>,
    /// Work it may do from `begins` on.
    credit: Duration,
    begins: Duration,
    turns: u32,
}

impl Quotas {
    /// Nobody is there.
    pub(crate) fn new(limits: UserLimits) -> Arc<Self> {
        Arc::new(Self { limits, accounts: Mutex::default() })
    }

    /// Counts one more connection of this user, from this address, and says from when on it may be opened. Users are told
    /// apart by their names; who has none shares with nobody.
    ///
    /// # Errors
    ///
    /// One of the limits is reached. Nothing is counted then.
    pub(crate) fn admit(
        self: &Arc<Self>,
        identity: &Identity,
        address: Option<IpAddr>,
        resumes: bool,
        now: Duration,
    ) -> Result<(Share, Duration), Refusal> {
        let user: Option<Arc<str>> = identity.recipients().next().map(Into::into);
        let address = address.filter(|_| self.limits.connections_per_address.is_some()).map(subscriber);
        let per_second = u64::from(self.limits.resumes_per_second.unwrap_or(u32::MAX));
        let mut accounts = self.lock();
        accounts.now = accounts.now.max(now);
        accounts.forget(per_second);
        self.check_room(&accounts, user.as_deref(), address)?;
        let mut begins = now;
        if let Some(name) = &user {
            let entry = accounts.user(name, per_second);
            if resumes
                && self.limits.resumes_per_second.is_some()
                && let Some(wait) = entry.resumes.wait(1, now)
            {
                return Err(Refusal::ResumesTooOften { wait });
            }
            let opens = entry.begins(now);
            let wait = opens.saturating_sub(now);
            if wait > OPENING_WITHIN {
                return Err(Refusal::ReplaysTooMuch { wait });
            }
            if resumes {
                entry.resumes.acquire(1, now);
            }
            entry.work(OPENING, now);
            entry.connections += 1;
            begins = opens;
        }
        accounts.connections += 1;
        if let Some(address) = address {
            *accounts.addresses.entry(address).or_default() += 1;
        }
        let share =
            Share { quotas: Some(self.clone()), user, address, credit: Duration::ZERO, begins, turns: 0 };
        Ok((share, begins))
    }

    /// Whether one more connection keeps all limits.
    fn check_room(
        &self,
        accounts: &Accounts,
        user: Option<&str>,
        address: Option<IpAddr>,
    ) -> Result<(), Refusal> {
        let is_full = |limit: Option<u32>, there: u32| limit.is_some_and(|limit| there >= limit);
        if is_full(self.limits.connections, accounts.connections) {
            return Err(Refusal::Full(Limit::Gateway));
        }
        let of_user = user.and_then(|user| accounts.users.get(user)).map_or(0, |user| user.connections);
        if is_full(self.limits.connections_per_user, of_user) {
            return Err(Refusal::Full(Limit::User));
        }
        let of_address = address.and_then(|address| accounts.addresses.get(&address)).copied().unwrap_or(0);
        if is_full(self.limits.connections_per_address, of_address) {
            return Err(Refusal::Full(Limit::Address));
        }
        Ok(())
    }

    fn lock(&self) -> MutexGuard<'_, Accounts> {
        self.accounts.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Accounts {
    /// The account of this user, from now on.
    fn user(&mut self, name: &Arc<str>, resumes_per_second: u64) -> &mut User {
        self.users.entry(name.clone()).or_insert_with(|| User {
            connections: 0,
            resumes: Rate::new(resumes_per_second),
            worked: Duration::ZERO,
            is_closed: false,
        })
    }

    /// One connection of this user less.
    fn leave(&mut self, name: &Arc<str>) {
        let Some(user) = self.users.get_mut(name) else { return };
        user.connections = user.connections.saturating_sub(1);
        if user.connections == 0 && !std::mem::replace(&mut user.is_closed, true) {
            self.closed.push_back(name.clone());
        }
    }

    /// Forgets some of those who have nothing open and owe nothing any more. What they owe outlives their connections: or
    /// to come back would be to owe nothing.
    fn forget(&mut self, resumes_per_second: u64) {
        for _ in 0..CHECKED_AT_ONCE.min(self.closed.len()) {
            let Some(name) = self.closed.pop_front() else { return };
            let Some(user) = self.users.get_mut(&name) else { continue };
            if user.connections > 0 {
                user.is_closed = false;
            } else if user.owes(resumes_per_second, self.now) {
                self.closed.push_back(name);
            } else {
                self.users.remove(&name);
            }
        }
    }
}

impl User {
    /// Whether it matters later what this user did before.
    fn owes(&self, resumes_per_second: u64, now: Duration) -> bool {
        self.worked > now || self.resumes.wait(resumes_per_second, now).is_some()
    }

    /// From when on more work may be done.
    fn begins(&self, now: Duration) -> Duration {
        self.worked.saturating_sub(AT_ONCE * PART_OF_A_CORE).max(now)
    }

    /// Counts so much work, which takes the user's part of a core several times as long.
    fn work(&mut self, work: Duration, now: Duration) {
        self.worked = self.worked.max(now).saturating_add(work.saturating_mul(PART_OF_A_CORE));
    }
}

impl Share {
    /// One that counts nowhere.
    pub(crate) const fn unlimited() -> Self {
        Self {
            quotas: None,
            user: None,
            address: None,
            credit: Duration::ZERO,
            begins: Duration::ZERO,
            turns: 0,
        }
    }

    /// Asks for a turn. `Some`: it is not before then.
    pub(crate) fn turn(&mut self, now: Duration) -> Option<Duration> {
        let (Some(quotas), Some(name)) = (&self.quotas, &self.user) else { return None };
        if self.credit.is_zero() {
            let turn = if self.turns == 0 { FIRST_TURN } else { TURN };
            let mut accounts = quotas.lock();
            accounts.now = accounts.now.max(now);
            if let Some(user) = accounts.users.get_mut(name) {
                self.begins = user.begins(now);
                user.work(turn, now);
                (self.credit, self.turns) = (turn, self.turns.saturating_add(1));
            }
        }
        (self.begins > now).then_some(self.begins)
    }

    /// So much of the turn was used.
    pub(crate) fn spend(&mut self, entries: u64, bytes: u64) {
        let units = u32::try_from(entries.saturating_add(bytes / BYTES_PER_ENTRY)).unwrap_or(u32::MAX);
        self.credit = self.credit.saturating_sub(PER_ENTRY.saturating_mul(units));
    }

    /// The rest of the turn is not needed: there is nothing more to look at for now.
    pub(crate) fn done(&mut self) {
        if let (Some(quotas), Some(name)) = (&self.quotas, &self.user)
            && !self.credit.is_zero()
            && let Some(user) = quotas.lock().users.get_mut(name)
        {
            user.worked = user.worked.saturating_sub(self.credit * PART_OF_A_CORE);
        }
        (self.credit, self.turns) = (Duration::ZERO, 0);
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        self.done();
        let Some(quotas) = &self.quotas else { return };
        let mut accounts = quotas.lock();
        accounts.connections = accounts.connections.saturating_sub(1);
        if let Some(user) = &self.user {
            accounts.leave(user);
        }
        accounts.forget(u64::from(quotas.limits.resumes_per_second.unwrap_or(u32::MAX)));
        if let Some(address) = self.address
            && let Some(there) = accounts.addresses.get_mut(&address)
        {
            *there -= 1;
            if *there == 0 {
                accounts.addresses.remove(&address);
            }
        }
    }
}
