//! Each rule by itself.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use galaxy_push_core::Now;
use galaxy_push_core::cursor::{Cursor, Epoch};
use galaxy_push_core::window::Traits;
use galaxy_push_proto::v1;

use super::super::{Fatal, Message, Output, Read, RequestOutcome, StateMachine};
use crate::dedup::Bounds as DedupBounds;
use crate::nats::ClaimBounds;
use crate::nats::pack::{self, Head, HubId};
use crate::{Appended, Batch, Content, Key};

const EPOCH: Epoch = Epoch::with_holes(3);

/// A stream, and one who reads it from the first message on.
struct Log {
    stream: Vec<Message>,
    machine: StateMachine,
    told: Vec<Output>,
    stamp_ms: u64,
}

impl Log {
    fn new() -> Self {
        Self::bounded(ClaimBounds::default())
    }

    fn bounded(bounds: ClaimBounds) -> Self {
        let machine = StateMachine::new(EPOCH, 1, DedupBounds::default(), bounds);
        Self { stream: Vec::new(), machine, told: Vec::new(), stamp_ms: 1_000_000 }
    }

    fn message(&mut self, payload: Bytes) -> Read {
        let number = self.stream.len() as u64 + 1;
        let message = Message { number, stamp_unix_ms: self.stamp_ms, payload };
        self.stream.push(message.clone());
        self.machine.read(&message, Duration::ZERO, &mut self.told).unwrap()
    }

    /// A pack of this hub, whose writer had read up to `read`.
    fn pack(&mut self, (hub, number): (u128, u64), read: u64, requests: &[Batch]) -> Vec<RequestOutcome> {
        match self.message(packed((hub, number), read, requests)) {
            Read::Pack(judged) => {
                assert_eq!((judged.hub, judged.number), (HubId(hub), number));
                judged.outcomes
            }
            read => panic!("it counts: {read:?}"),
        }
    }

    fn wait(&mut self, ms: u64) {
        self.stamp_ms += ms;
    }

    /// Somebody else reads all of it, from this message on.
    fn read_from(&self, first: u64) -> (StateMachine, Vec<Output>, Vec<Read>) {
        let mut machine = StateMachine::new(EPOCH, first, DedupBounds::default(), ClaimBounds::default());
        let mut told = Vec::new();
        let those = self.stream[first as usize - 1..].iter();
        let read = those.map(|message| machine.read(message, Duration::ZERO, &mut told).unwrap()).collect();
        (machine, told, read)
    }
}

fn packed((hub, number): (u128, u64), read: u64, requests: &[Batch]) -> Bytes {
    let mut payload = Vec::new();
    pack::put_head(&mut payload, &Head { epoch: EPOCH, hub: HubId(hub), number, read });
    requests.iter().for_each(|request| pack::put_request(&mut payload, request));
    payload.into()
}

fn event(id: &str, data: &str) -> v1::Event {
    v1::Event {
        to: vec!["all".to_owned()],
        id: id.to_owned(),
        source: "/s".to_owned(),
        r#type: "t".to_owned(),
        data: data.to_owned().into(),
        ..v1::Event::default()
    }
}

fn request(events: &[v1::Event]) -> Batch {
    Batch::encode(events, &Arc::from("p"), Now { mono: Duration::ZERO, unix_ms: 5 })
}

fn one(id: &str, data: &str) -> Batch {
    request(&[event(id, data)])
}

fn at(message: u64, behind: u16) -> Cursor {
    Cursor::in_message(EPOCH, message, behind)
}

fn appended(cursors: &[Cursor]) -> RequestOutcome {
    let appended = cursors.iter().map(|at| Appended { cursor: Some(*at), duplicate: false });
    RequestOutcome::Appended(appended.collect())
}

fn duplicate(cursor: Cursor) -> RequestOutcome {
    RequestOutcome::Appended(vec![Appended { cursor: Some(cursor), duplicate: true }])
}

/// The positions of what readers were handed, and the gaps.
fn handed(told: &[Output]) -> (Vec<Cursor>, Vec<(Cursor, Cursor)>) {
    let (mut entries, mut gaps) = (Vec::new(), Vec::new());
    for told in told {
        match told {
            Output::Entries(those) => entries.extend(those.iter().map(|entry| entry.cursor)),
            Output::Gap { from, to } => gaps.push((*from, *to)),
            _ => {}
        }
    }
    (entries, gaps)
}

#[test]
fn positions_follow_from_the_number_of_the_message_and_the_items_behind() {
    let mut log = Log::new();
    let two = request(&[event("a", ""), event("b", "")]);
    let outcomes = log.pack((1, 1), 0, &[two, one("c", "")]);
    assert_eq!(outcomes, [appended(&[at(1, 2), at(1, 1)]), appended(&[at(1, 0)])]);
    assert_eq!(log.pack((1, 2), 1, &[one("d", "")]), [appended(&[at(2, 0)])]);
    assert!(matches!(log.told[0], Output::Begin(base) if base == Cursor::start(EPOCH)));
    let Output::Entries(entries) = &log.told[1] else { panic!("{:?}", log.told) };
    let continues: Vec<_> = entries.iter().map(|entry| entry.traits.has(Traits::CONTINUES)).collect();
    assert_eq!(continues, [true, false, false, false], "a request is contiguous");
    assert!(matches!(log.told[2], Output::Upto(end) if end == at(2, 0)));
}

#[test]
fn of_what_two_hubs_claim_at_once_the_first_wins_and_the_other_leaves_its_place_empty() {
    let mut log = Log::new();
    log.pack((1, 1), 0, &[one("a", "1")]);
    assert_eq!(log.pack((2, 1), 0, &[one("a", "1"), one("b", "")])[0], duplicate(at(1, 0)));
    let (entries, gaps) = handed(&log.told);
    assert_eq!((entries, gaps), (vec![at(1, 0), at(2, 0)], vec![]));
}

#[test]
fn a_request_with_another_content_is_skipped_whole_and_the_others_of_its_pack_stand() {
    let mut log = Log::new();
    log.pack((1, 1), 0, &[one("a", "1")]);
    let reused = request(&[event("new", ""), event("a", "2")]);
    let outcomes = log.pack((2, 1), 0, &[reused, one("new", "")]);
    assert_eq!(outcomes, [RequestOutcome::Reused { item: Some(1) }, appended(&[at(2, 0)])]);
    let twice = request(&[event("x", "1"), event("y", ""), event("x", "2")]);
    assert_eq!(log.pack((1, 2), 2, &[twice]), [RequestOutcome::Reused { item: Some(2) }]);
    assert_eq!(log.pack((1, 3), 3, &[one("x", "2")]), [appended(&[at(4, 0)])], "nor is it remembered");
}

#[test]
fn earlier_requests_of_a_pack_come_before_later_ones() {
    let mut log = Log::new();
    let outcomes = log.pack((1, 1), 0, &[one("a", "1"), one("a", "1"), one("a", "2")]);
    assert_eq!(
        outcomes,
        [appended(&[at(1, 2)]), duplicate(at(1, 2)), RequestOutcome::Reused { item: Some(0) }]
    );
}

#[test]
fn what_its_writer_had_read_is_not_looked_at_again() {
    let mut log = Log::new();
    log.pack((1, 1), 0, &[one("a", "1")]);
    let outcomes = log.pack((2, 1), 1, &[one("a", "2")]);
    assert_eq!(outcomes, [appended(&[at(2, 0)])], "it has forgotten the key, and all have it appended");
    assert_eq!(log.pack((3, 1), 0, &[one("a", "1")]), [duplicate(at(1, 0))], "the first there wins");
    assert_eq!(log.pack((4, 1), 1, &[one("a", "2")]), [duplicate(at(2, 0))]);
}

/// The case for which packs claim: were each reader to judge by what it knows, these would never agree again.
#[test]
fn a_key_that_comes_again_and_again_is_judged_alike_from_wherever_one_began() {
    let mut log = Log::new();
    for number in 1..=8 {
        log.pack((1, number), number - 1, &[one("a", "1")]);
        log.wait(80_000);
    }
    let (all, _) = handed(&log.told);
    assert_eq!(all.len(), 8, "its writer had forgotten it each time");
    for first in 2..=7 {
        let (_, told, _) = log.read_from(first);
        let (entries, gaps) = handed(&told);
        assert_eq!((&entries[..], &gaps[..]), (&all[first as usize..], &[][..]), "from {first}");
    }
}

#[test]
fn a_claim_is_dead_once_something_behind_it_is_ten_seconds_older() {
    for (age, alive) in [(9_999, true), (10_000, false)] {
        let mut log = Log::new();
        log.pack((1, 1), 0, &[one("a", "")]);
        log.wait(age);
        let outcomes = log.pack((2, 1), 0, &[one("b", "")]);
        let expected = if alive { appended(&[at(2, 0)]) } else { RequestOutcome::Dead };
        assert_eq!(outcomes, [expected], "{age} ms");
        assert_eq!(log.pack((2, 2), 1, &[one("c", "")]), [appended(&[at(3, 0)])], "its writer has caught up");
    }
}

#[test]
fn a_claim_is_dead_once_too_many_items_lie_behind_it() {
    for (others, alive) in [(3, true), (4, false)] {
        let mut log = Log::bounded(ClaimBounds { items: 3, ..ClaimBounds::default() });
        for number in 1..=others - 1 {
            log.pack((1, number), number - 1, &[one(&format!("{number}"), "")]);
        }
        assert_eq!(log.message(Bytes::from_static(b"a foreign one counts too")), Read::Foreign);
        let outcomes = log.pack((2, 1), 0, &[one("b", "")]);
        let expected = if alive { appended(&[at(others + 1, 0)]) } else { RequestOutcome::Dead };
        assert_eq!(outcomes, [expected], "{others} items");
    }
}

#[test]
fn a_pack_that_comes_behind_a_later_one_of_its_hub_is_skipped_and_so_is_a_second_copy() {
    let mut log = Log::new();
    log.pack((1, 2), 0, &[one("b", "")]);
    let first = packed((1, 1), 0, &[one("a", "")]);
    assert_eq!(log.message(first.clone()), Read::Overtaken(HubId(1), 1));
    assert_eq!(log.message(packed((1, 2), 0, &[one("b", "")])), Read::Overtaken(HubId(1), 2));
    assert_eq!(
        log.pack((2, 1), 0, &[one("a", "")]),
        [appended(&[at(4, 0)])],
        "what was skipped is not known"
    );
    // Whoever missed the later one cannot count the earlier one either.
    log.message(first);
    let (_, _, read) = log.read_from(2);
    let doubtful =
        |read: &Read| matches!(read, Read::Pack(judged) if judged.outcomes == [RequestOutcome::Doubtful]);
    assert!(doubtful(&read[0]), "{read:?}");
}

#[test]
fn what_no_hub_of_the_log_wrote_is_skipped_and_said() {
    let mut log = Log::new();
    assert_eq!(log.message(Bytes::new()), Read::Foreign);
    assert_eq!(log.message(Bytes::from_static(b"hello")), Read::Foreign);
    let impossible = packed((1, 99), 3, &[one("a", "")]);
    assert_eq!(log.message(impossible), Read::Impossible, "it has read itself");
    let mut other = Vec::new();
    let head = Head { epoch: Epoch::with_holes(4), hub: HubId(1), number: 99, read: 0 };
    pack::put_head(&mut other, &head);
    pack::put_request(&mut other, &one("a", ""));
    assert_eq!(log.message(other.into()), Read::OtherEpoch(head.epoch));
    assert_eq!(log.pack((1, 1), 0, &[one("a", "")]), [appended(&[at(5, 0)])], "they count for nothing");
    assert_eq!(handed(&log.told).0, [at(5, 0)]);
}

#[test]
fn a_hub_that_meets_another_version_ends() {
    let mut log = Log::new();
    let mut payload = packed((1, 1), 0, &[one("a", "")]).to_vec();
    payload[4] = 9;
    let message = Message { number: 1, stamp_unix_ms: 1, payload: payload.into() };
    let read = log.machine.read(&message, Duration::ZERO, &mut log.told);
    assert_eq!(read, Err(Fatal::Version { number: 1, version: 9 }));
    assert_eq!((log.told.len(), log.machine.last()), (0, 0));
    let message = Message { number: 1 << 48, ..message };
    let read = log.machine.read(&message, Duration::ZERO, &mut log.told);
    assert_eq!(read, Err(Fatal::Full(1 << 48)), "positions end there");
}

#[test]
fn whoever_begins_late_shows_nothing_until_no_claim_from_before_lives() {
    let mut log = Log::new();
    for number in 1..=30 {
        log.pack((1, number), number - 1, &[one(&format!("{number}"), "")]);
        log.wait(1_000);
    }
    let (_, told, _) = log.read_from(4);
    assert!(
        matches!(told[0], Output::Begin(base) if base == at(23, 0)),
        "20 s behind the first it read: {told:?}"
    );
    let (entries, gaps) = handed(&told);
    assert_eq!((entries[0], entries.len(), gaps.len()), (at(24, 0), 7, 0));
    // A duplicate of what was not shown is one all the same.
    let again = packed((2, 1), 28, &[one("29", "")]);
    let message = Message { number: 31, stamp_unix_ms: log.stamp_ms, payload: again };
    let (mut machine, mut told, _) = log.read_from(4);
    let read = machine.read(&message, Duration::ZERO, &mut told).unwrap();
    assert!(matches!(&read, Read::Pack(judged) if judged.outcomes == [duplicate(at(29, 0))]), "{read:?}");
}

#[test]
fn whoever_has_caught_up_early_tells_what_it_cannot_judge_request_by_request() {
    let mut log = Log::new();
    log.pack((1, 1), 0, &[one("a", "")]);
    log.pack((1, 2), 1, &[one("b", "")]);
    let (mut machine, mut told, _) = log.read_from(2);
    assert!(told.is_empty());
    machine.caught_up(&mut told);
    let mut read = |number, payload| {
        let message = Message { number, stamp_unix_ms: 1_000_001, payload };
        match machine.read(&message, Duration::ZERO, &mut told).unwrap() {
            Read::Pack(judged) => judged.outcomes,
            read => panic!("{read:?}"),
        }
    };
    // It may have come before the first message that was read.
    let doubtful = read(3, packed((2, 1), 0, &[one("a", ""), one("c", "")]));
    assert_eq!(doubtful, [RequestOutcome::Doubtful, RequestOutcome::Doubtful]);
    // Whatever rests on that is in doubt too, and nothing else is.
    let requests = [one("c", ""), request(&[event("d", ""), event("e", "")])];
    assert_eq!(
        read(4, packed((3, 1), 2, &requests))[..],
        [RequestOutcome::Doubtful, appended(&[at(4, 1), at(4, 0)])]
    );
    let surely = request(&[event("c", ""), event("d", "2")]);
    assert_eq!(read(5, packed((3, 2), 2, &[surely])), [RequestOutcome::Reused { item: Some(1) }]);
    assert_eq!(read(6, packed((3, 3), 5, &[one("c", "")])), [appended(&[at(6, 0)])]);
    let (entries, gaps) = handed(&told);
    assert_eq!(entries, [at(4, 1), at(4, 0), at(6, 0)]);
    assert_eq!(gaps, [(at(3, 2), at(3, 0)), (at(4, 3), at(4, 2))]);
    assert!(matches!(told[0], Output::Begin(base) if base == at(2, 0)));
}

#[test]
fn a_hole_in_the_stream_is_a_gap_and_what_would_need_it_is_in_doubt() {
    let mut log = Log::new();
    for number in 1..=3 {
        log.pack((1, number), number - 1, &[one(&format!("{number}"), "")]);
    }
    let read = |number, payload| Message { number, stamp_unix_ms: 1_000_000, payload };
    let Log { mut machine, mut told, .. } = log;
    told.clear();
    let late = read(6, packed((2, 1), 3, &[one("a", "")]));
    let outcomes = machine.read(&late, Duration::ZERO, &mut told).unwrap();
    assert!(matches!(&outcomes, Read::Pack(judged) if judged.outcomes == [RequestOutcome::Doubtful]));
    let behind = read(7, packed((2, 2), 5, &[one("b", "")]));
    let outcomes = machine.read(&behind, Duration::ZERO, &mut told).unwrap();
    assert!(matches!(&outcomes, Read::Pack(judged) if judged.outcomes == [appended(&[at(7, 0)])]));
    machine.lost(9, &mut told);
    machine.lost(8, &mut told);
    let (entries, gaps) = handed(&told);
    assert_eq!(entries, [at(7, 0)]);
    // The hole, and behind it the pack in doubt; then what is gone though nothing follows.
    let before = at(6, 0).before();
    assert_eq!(gaps, [(at(3, 0), at(5, 0)), (before, at(6, 0)), (at(7, 0), at(9, 0))]);
    assert_eq!(machine.last(), 9);
}

#[test]
fn ephemeral_events_take_no_position_and_are_handed_to_live_readers_only() {
    let ephemeral = |id: &str| v1::Event { ephemeral: true, ..event(id, "") };
    let mut log = Log::new();
    log.pack((1, 1), 0, &[request(&[ephemeral("a"), event("b", "")])]);
    assert_eq!(handed(&log.told).0, [at(1, 0)], "it was there before this reader came");
    log.machine.caught_up(&mut log.told);
    log.told.clear();
    let again = Appended { cursor: None, duplicate: true };
    let outcomes = log.pack((2, 1), 0, &[request(&[event("c", ""), ephemeral("a"), ephemeral("d")])]);
    let own = |cursor| Appended { cursor, duplicate: false };
    assert_eq!(outcomes, [RequestOutcome::Appended(vec![own(Some(at(2, 2))), again, own(None)])]);
    assert_eq!(handed(&log.told).0, [at(2, 2), at(2, 2)], "it lies behind the position before it");
}

#[test]
fn records_with_a_key_are_appended_once_and_their_changes_are_told_with_their_positions() {
    let member = |topic: &str| v1::Membership {
        recipient: "user:1".to_owned(),
        topic: topic.to_owned(),
        member: true,
        expires_at: None,
    };
    let key = |content: &str| Some((Key::new(&Arc::from("p"), "/s", "r"), Content::of([content.as_bytes()])));
    let now = Now { mono: Duration::ZERO, unix_ms: 7 };
    let batch = Batch::memberships(&[member("a"), member("b")], now).sharing_room(Some("p"));
    let mut log = Log::new();
    let outcomes = log.pack((1, 1), 0, &[batch.clone().with_key(key("ab"))]);
    assert_eq!(outcomes, [appended(&[at(1, 1), at(1, 0)])]);
    let again = Appended { cursor: Some(at(1, 0)), duplicate: true };
    let outcomes = log.pack((2, 1), 0, &[batch.clone().with_key(key("ab")), batch.with_key(key("a"))]);
    assert_eq!(outcomes, [RequestOutcome::Appended(vec![again; 2]), RequestOutcome::Reused { item: None }]);
    let Output::Records(records) = &log.told[1] else { panic!("before the entries: {:?}", log.told) };
    let those: Vec<_> = records.iter().map(|record| (record.cursor, record.wall_unix_ms)).collect();
    assert_eq!(those, [(at(1, 1), 7), (at(1, 0), 7)]);
    assert!(records.iter().all(|record| record.share.as_deref() == Some("p")));
    assert_eq!(handed(&log.told).0, [at(1, 1), at(1, 0)]);
}

/// Whoever begins late shows nothing of the first messages. What they say of records holds all the same.
#[test]
fn records_are_told_before_anything_is_shown_and_those_in_doubt_as_such() {
    let record =
        v1::Membership { recipient: "user:1".into(), topic: "x".into(), ..v1::Membership::default() };
    let batch = Batch::memberships(&[record], Now { mono: Duration::ZERO, unix_ms: 7 });
    let mut machine = StateMachine::new(EPOCH, 5, DedupBounds::default(), ClaimBounds::default());
    let mut told = Vec::new();
    for (number, read) in [(5, 3), (6, 5)] {
        let mut payload = Vec::new();
        pack::put_head(&mut payload, &Head { epoch: EPOCH, hub: HubId(1), number, read });
        pack::put_request(&mut payload, &batch);
        let message = Message { number, stamp_unix_ms: 1_000_000, payload: payload.into() };
        machine.read(&message, Duration::ZERO, &mut told).unwrap();
    }
    assert!(machine.told_to.is_none());
    let [Output::Records(first), Output::Records(second)] = &told[..] else { panic!("{told:?}") };
    let those = |records: &[crate::nats::Record]| (records[0].cursor, records[0].is_doubtful, records.len());
    assert_eq!([those(first), those(second)], [(at(5, 0), true, 1), (at(6, 0), false, 1)]);
}

#[test]
fn a_message_that_comes_again_is_read_once() {
    let mut log = Log::new();
    log.pack((1, 1), 0, &[one("a", "")]);
    let again = log.machine.read(&log.stream[0].clone(), Duration::ZERO, &mut log.told);
    assert_eq!(again, Ok(Read::Again));
}
