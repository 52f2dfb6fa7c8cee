//! The registers of the fence as one hub sees them: what it has read of the others, and until when that is all there was.
//!
//! Pure: every moment is given by the caller. Several times a second a hub writes a *beat*, a key of its own. Once a beat is read back,
//! everything has been read that was written before it: so a hub knows until when it knows the fence, also one whose broker lags
//! behind the others without knowing. What the bytes are, [`register`] says.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use tokio::time::Instant;

use super::HubId;
use super::bucket::Unreadable;
use super::register::{self, Beat, Held, Register};
use crate::{Error, Holder, Refused, fence};

/// How often a beat is written.
pub const BEAT_EVERY: Duration = Duration::from_millis(250);

/// Nothing of the log is handed on when the fence was known longer ago: another hub may have let somebody in since. What was
/// taken elsewhere ends a stream here within this time and what a notice takes, 1 s together.
pub const KNOWN_FOR: Duration = Duration::from_millis(800);

/// When it was known longer ago than this, it is not even asked: the brokers are away.
pub const REACHED_FOR: Duration = Duration::from_secs(2);

/// It is read anew when nothing new has come for so long, for its broker may be cut off from the others.
pub const ANEW_AFTER: Duration = Duration::from_secs(3);

/// How long it waits before it is read anew.
pub const PAUSE: Duration = Duration::from_millis(100);

/// A hub of which no beat was read for so long is dead, cut off or stopped.
pub const ALIVE_FOR: Duration = Duration::from_secs(2);

/// The most hubs of which that is known: a key of 36 bytes each. Of more, those that were heard longest ago are not asked.
const DOORS_MAX: usize = 1_024;

/// As many beats may be under way; of an older one nobody wants to know any more.
const BEATS_MAX: usize = 16;

/// Up to when everything that was written has been read.
#[derive(Clone, Copy, Debug)]
pub struct KnownAt {
    /// When the beat was written that came back.
    pub at: Instant,
    /// By which connection; each has a number.
    pub made: u64,
}

impl KnownAt {
    /// Whether everything that was taken until a moment ago has been told, by the connection that there is now.
    #[must_use]
    pub fn is_known(&self, made: u64, now: Instant) -> bool {
        self.made == made && self.is_within(KNOWN_FOR, now)
    }

    /// Whether that was so within this time.
    #[must_use]
    pub fn is_within(&self, time: Duration, now: Instant) -> bool {
        now.saturating_duration_since(self.at) < time
    }
}

/// What was read and written of who has which gateway id.
#[derive(Debug, Default)]
pub struct Known {
    /// The highest generation that anybody has given out.
    pub(crate) highest: u64,
    /// The highest revision that was read.
    read: u64,
    pub(crate) held: Held,
    doors: Doors,
}

/// The other hubs, by the latest beat of each that was read: its number, and when that was read first. One that lies there is read
/// again and again, and its hub may have ended long ago.
#[derive(Debug, Default)]
struct Doors(BTreeMap<String, (u64, Instant)>);

impl Doors {
    fn beat(&mut self, key: &str, number: u64, now: Instant) {
        match self.0.get_mut(key) {
            Some((known, _)) if *known == number => return,
            Some(known) => return *known = (number, now),
            None => {}
        }
        if self.0.len() >= DOORS_MAX {
            self.0.retain(|_, (_, at)| is_recent(*at, now));
        }
        if self.0.len() >= DOORS_MAX {
            // They are read in the order in which they were written: those of hubs that live come last.
            let oldest = self.0.iter().min_by_key(|(_, (_, at))| *at).map(|(key, _)| key.clone());
            oldest.iter().for_each(|key| _ = self.0.remove(key));
        }
        self.0.insert(key.to_owned(), (number, now));
    }

    fn is_alive(&self, hub: HubId, now: Instant) -> bool {
        self.0.get(&register::beat_key(hub)).is_some_and(|(_, at)| is_recent(*at, now))
    }
}

fn is_recent(at: Instant, now: Instant) -> bool {
    now.saturating_duration_since(at) < ALIVE_FOR
}

impl Known {
    /// This was read, by the hub of this door. Returns whether that is to be told: what it wrote itself it knows.
    pub fn read(&mut self, revision: u64, register: &Register, door: HubId) -> bool {
        let Register { gateway, holder, .. } = register;
        self.highest = self.highest.max(holder.generation);
        self.read = self.read.max(revision);
        let is_own = register.door == door;
        if is_own {
            self.held.took(gateway, revision, holder.clone());
        } else {
            self.held.lost(gateway);
        }
        !is_own
    }

    /// This hub has written this, and was told so. What was read behind it, another hub's taking perhaps, was told before.
    pub fn wrote(&mut self, gateway: &str, revision: u64, holder: Holder) {
        self.highest = self.highest.max(holder.generation);
        if revision > self.read {
            self.held.took(gateway, revision, holder);
        }
    }

    /// A hub has written this beat under its key, and it was read at this time.
    pub fn heard(&mut self, key: &str, beat: Beat, now: Instant) {
        self.highest = self.highest.max(beat.highest);
        self.doors.beat(key, beat.number, now);
    }

    /// Whether new beats of this hub were read of late.
    #[must_use]
    pub fn is_alive(&self, hub: HubId, now: Instant) -> bool {
        self.doors.is_alive(hub, now)
    }

    /// The highest generation that is known, for a beat.
    #[must_use]
    pub const fn highest(&self) -> u64 {
        self.highest
    }

    /// What the register of an id says: its last value, if it has one, and the revision of that; the next generation lies behind
    /// every one that is known. A value that no hub wrote says nothing, and whoever comes next writes over it.
    ///
    /// # Errors
    ///
    /// The value is of another version.
    pub fn found(&self, value: Option<(u64, &[u8])>) -> Result<fence::Register, Error> {
        let revision = value.map_or(0, |(revision, _)| revision);
        let (door, holder) = match value {
            Some((_, bytes)) if !bytes.is_empty() => match Register::read(bytes) {
                Ok(register) => (register.door.0, register.holder),
                Err(Unreadable::Foreign) => (0, Holder::default()),
                Err(error) => {
                    return Err(Refused::Unavailable(format!("a register of the fence: {error}")).into());
                }
            },
            _ => (0, Holder::default()),
        };
        // No lower than any other: a register may have been forgotten while somebody stands under it.
        let behind = register::used_up(self.highest.max(holder.generation));
        Ok(fence::Register { holder, behind, revision, door })
    }

    /// Who took this id at this hub last, unless it was read that another hub took it since.
    #[must_use]
    pub fn holder(&self, gateway: &str) -> Option<Holder> {
        self.held.holder(gateway).cloned()
    }
}

/// The beats of this hub that were not read back yet.
#[derive(Debug, Default)]
pub struct Beats {
    last: u64,
    pub(crate) in_flight: VecDeque<(u64, Instant)>,
    /// When the latest was written that was read back, though others may have been written before it.
    pub(crate) read: Option<Instant>,
}

impl Beats {
    /// The number of one that is written now.
    pub fn next(&mut self, now: Instant) -> u64 {
        self.last += 1;
        if self.in_flight.len() >= BEATS_MAX {
            self.in_flight.pop_front();
        }
        self.in_flight.push_back((self.last, now));
        self.last
    }

    /// One that was written for a consumer before says nothing of what the next has read: it may lie before what that lacks.
    pub fn begin_anew(&mut self) {
        self.in_flight.clear();
        self.read = None;
    }

    /// This one was read back.
    pub fn came_back(&mut self, number: u64) {
        while let Some((first, written)) = self.in_flight.front().copied() {
            if first > number {
                return;
            }
            self.in_flight.pop_front();
            if first == number {
                self.read = Some(written);
            }
        }
    }

    /// Until when everything was read that had been written, told once. What was written over was written before what wrote over it. So a
    /// beat says nothing while more is to come.
    pub fn take_known(&mut self, pending: u64) -> Option<Instant> {
        self.read.take_if(|_| pending == 0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_hub_wrote_it_holds_unless_it_has_read_that_another_took_it_since() {
        let holder = |generation| Holder { generation, ..Holder::default() };
        let mut known = Known::default();
        known.wrote("a", 5, holder(1));
        assert_eq!(known.held.holder("a"), Some(&holder(1)), "before it was read back");
        let [own, other] = [HubId(1), HubId(2)];
        let of =
            |door, gateway: &str, number| Register { door, gateway: gateway.into(), holder: holder(number) };
        assert!(known.read(8, &of(other, "b", 3), own));
        known.wrote("b", 7, holder(2));
        assert_eq!((known.held.holder("b"), known.highest), (None, 3));
        known.wrote("c", 9, holder(4));
        assert!(!known.read(9, &of(own, "c", 4), own), "it wrote that itself");
        assert_eq!((known.held.holder("c"), known.highest), (Some(&holder(4)), 4));
        assert!(known.read(10, &of(other, "a", 5), own));
        assert_eq!(known.held.holder("a"), None);
    }

    #[test]
    fn a_value_that_no_hub_wrote_keeps_nobody_out_and_one_of_a_later_hub_does() {
        let mut known = Known::default();
        known.wrote("a", 5, Holder { generation: 70_000, ..Holder::default() });
        let held = Register { door: HubId(1), gateway: "a".into(), holder: Holder::default() };
        let mut far = held.write();
        far[17..25].fill(0xFF);
        for foreign in [&b"\x01garbage"[..], &far] {
            let found = known.found(Some((9, foreign))).unwrap();
            assert_eq!((found.revision, found.holder, found.door), (9, Holder::default(), 0));
            assert!(found.behind > 70_000 && found.behind < u64::MAX / 2);
        }
        assert!(Beat::read(&Beat { number: 1, highest: u64::MAX }.write()).is_err());
        assert!(known.found(Some((9, b"\x02later"))).is_err());
    }

    #[test]
    fn a_beat_that_comes_back_tells_when_it_was_written() {
        let begun = Instant::now();
        let at = |n| begun + BEAT_EVERY * n;
        let mut beats = Beats::default();
        let numbers: Vec<_> = (1..=20).map(|n| beats.next(at(n))).collect();
        assert_eq!(numbers, (1..=20).collect::<Vec<_>>());
        beats.came_back(4);
        assert_eq!(beats.read, None, "so late nobody wants to know");
        beats.came_back(7);
        assert_eq!(beats.read, Some(at(7)));
        beats.came_back(6);
        beats.came_back(21);
        assert_eq!((beats.read, beats.in_flight.len()), (Some(at(7)), 0));
        assert_eq!(beats.take_known(1), None, "more is to come");
        assert_eq!((beats.take_known(0), beats.take_known(0)), (Some(at(7)), None));
        let for_another = beats.next(at(30));
        beats.begin_anew();
        beats.came_back(for_another);
        assert_eq!(beats.read, None, "it may lie before what this consumer lacks");
    }

    #[test]
    fn a_hub_is_alive_for_a_while_after_each_new_beat() {
        let begun = Instant::now();
        let mut doors = Doors::default();
        let at = |ms| begun + Duration::from_millis(ms);
        let mut beat = |hub, number, ms| doors.beat(&register::beat_key(HubId(hub)), number, at(ms));
        beat(1, 7, 0);
        beat(2, 1, 0);
        beat(1, 8, 250);
        beat(2, 1, 1_000);
        assert!(doors.is_alive(HubId(1), at(2_249)) && !doors.is_alive(HubId(1), at(2_250)));
        assert!(doors.is_alive(HubId(2), at(1_999)));
        assert!(!doors.is_alive(HubId(2), at(2_000)), "what lies there is read again, and no sign of life");
        assert!(!doors.is_alive(HubId(3), at(1_000)));
        for hub in 0..2 * DOORS_MAX as u128 {
            doors.beat(&register::beat_key(HubId(hub)), 1, at(4_000) + Duration::from_nanos(hub as u64));
        }
        assert_eq!(doors.0.len(), DOORS_MAX);
        assert!(doors.is_alive(HubId(2 * DOORS_MAX as u128 - 1), at(4_001)), "the last that was read");
        doors.beat(&register::beat_key(HubId(u128::MAX)), 1, at(6_001));
        assert!(doors.is_alive(HubId(u128::MAX), at(6_001)) && doors.0.len() == 1);
    }
}
