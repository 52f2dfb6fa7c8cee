//! Tests of what a hub sends, and of the answers.

mod store;

use std::sync::Arc;

use bytes::Bytes;
use galaxy_push_core::Now;
use galaxy_push_proto::v1;

use super::*;
use crate::Key;
use crate::nats::{ANSWER_WITHIN, pack};

const EPOCH: Epoch = Epoch::with_holes(3);

type Answer = (u32, Result<Vec<Appended>, Error>);

/// A hub and a stream that takes what it sends.
struct World {
    door: Door<u32>,
    told: Vec<Output>,
    stored: u64,
}

impl World {
    fn new(limits: Limits) -> Self {
        let mut world = Self { door: Door::new(settings(limits)), told: Vec::new(), stored: 0 };
        world.door.caught_up(&mut world.told);
        world
    }

    fn offer(&mut self, reply: u32, events: &[v1::Event]) {
        self.door.offer(batch(events), reply, Duration::ZERO);
    }

    fn seal(&mut self) -> Vec<Sealed> {
        std::iter::from_fn(|| self.door.seal(Duration::ZERO)).collect()
    }

    /// The stream takes it, and the hub reads it.
    fn read(&mut self, payload: &Bytes) -> Read {
        self.stored += 1;
        let message = Message { number: self.stored, stamp_unix_ms: 1_000_000, payload: payload.clone() };
        self.door.read(&message, Duration::ZERO, &mut self.told).unwrap()
    }

    /// All that waits goes through the stream.
    fn settle(&mut self) -> Vec<Answer> {
        while let Some(sealed) = self.door.seal(Duration::ZERO) {
            self.read(&sealed.payload);
        }
        self.door.take_answers()
    }
}

fn settings(limits: Limits) -> Settings {
    let (dedup, claims) = (DedupBounds::default(), ClaimBounds::default());
    Settings { epoch: EPOCH, hub: HubId(1), first: 1, dedup, claims, limits }
}

fn event(id: &str, data: &str) -> v1::Event {
    v1::Event { id: id.to_owned(), data: data.to_owned().into(), ..v1::Event::default() }
}

fn batch(events: &[v1::Event]) -> Batch {
    Batch::encode(events, &Arc::from("p"), Now { mono: Duration::ZERO, unix_ms: 5 })
}

fn at(message: u64, behind: u16) -> Cursor {
    Cursor::in_message(EPOCH, message, behind)
}

const fn own(cursor: Cursor) -> Appended {
    Appended { cursor: Some(cursor), duplicate: false }
}

const fn again(cursor: Cursor) -> Appended {
    Appended { cursor: Some(cursor), duplicate: true }
}

fn is_unavailable(answer: &Answer) -> bool {
    matches!(&answer.1, Err(Error::Refused(Refused::Unavailable(_))))
}

fn is_unknown(answer: &Answer) -> bool {
    matches!(&answer.1, Err(Error::Unknown(_)))
}

#[test]
fn a_batch_is_answered_when_its_hub_has_read_it_back() {
    let mut world = World::new(Limits::default());
    world.offer(1, &[event("a", ""), event("b", "")]);
    let sealed = world.seal();
    assert_eq!((sealed.len(), sealed[0].number), (1, 1));
    world.door.stored(1);
    assert!(world.door.take_answers().is_empty(), "stored is not read");
    world.read(&sealed[0].payload);
    assert_eq!(world.door.take_answers(), [(1, Ok(vec![own(at(1, 1)), own(at(1, 0))]))]);
    assert_eq!((world.door.unanswered(), world.door.next_expiry()), (0, None));
}

#[test]
fn what_is_known_is_answered_without_being_sent() {
    let mut world = World::new(Limits::default());
    world.offer(1, &[event("a", "1"), event("b", "")]);
    world.settle();
    world.offer(2, &[event("a", "1")]);
    world.offer(3, &[event("c", ""), event("a", "2")]);
    world.offer(4, &[event("a", "1"), event("d", ""), event("b", ""), event("d", "")]);
    world.offer(5, &[event("e", "1"), event("e", "2")]);
    world.offer(6, &[]);
    let sealed = world.seal();
    assert_eq!(sealed.len(), 1);
    let sent = pack::read(&sealed[0].payload).unwrap();
    assert_eq!((sent.head.read, sent.items()), (1, 1), "only what is new is sent");
    world.read(&sealed[0].payload);
    let reused = |item| Err(Error::Refused(Refused::IdReused { item: Some(item) }));
    let (a, b, d) = (at(1, 1), at(1, 0), at(2, 0));
    let mut answers = world.door.take_answers();
    answers.sort_by_key(|(reply, _)| *reply);
    let expected = [
        (2, Ok(vec![again(a)])),
        (3, reused(1)),
        (4, Ok(vec![again(a), own(d), again(b), again(d)])),
        (5, reused(1)),
        (6, Ok(vec![])),
    ];
    assert_eq!(answers, expected);
}

/// Two batches of one hub under way at a time, and one of another hub that came first.
#[test]
fn the_item_of_a_refusal_is_that_of_the_batch_not_that_of_what_was_sent() {
    let mut world = World::new(Limits::default());
    world.offer(1, &[event("known", "")]);
    world.settle();
    world.offer(2, &[event("known", ""), event("new", ""), event("a", "2")]);
    let sealed = world.seal();
    let mut other = Vec::new();
    pack::put_head(&mut other, &pack::Head { epoch: EPOCH, hub: HubId(2), number: 1, read: 1 });
    pack::put_request(&mut other, &batch(&[event("a", "1")]));
    world.read(&other.into());
    world.read(&sealed[0].payload);
    let refused = Err(Error::Refused(Refused::IdReused { item: Some(2) }));
    assert_eq!(world.door.take_answers(), [(2, refused)]);
}

#[test]
fn while_enough_is_under_way_what_comes_gathers_and_its_order_is_kept() {
    let mut world = World::new(Limits { packs: 2, pack_bytes: 400, ..Limits::default() });
    for reply in 0..2 {
        world.offer(reply, &[event(&format!("{reply}"), "")]);
        assert_eq!(world.seal().len(), 1);
    }
    for reply in 2..20 {
        world.offer(reply, &[event(&format!("{reply}"), "")]);
        assert!(world.seal().is_empty());
    }
    world.door.stored(1);
    let gathered = world.seal();
    assert_eq!(gathered.len(), 1);
    let requests = pack::read(&gathered[0].payload).unwrap().requests;
    assert!(requests.len() > 1 && gathered[0].payload.len() <= 400, "{} requests", requests.len());
    let ids: Vec<_> = requests.iter().map(|batch| batch.items[0].key.clone().unwrap().0).collect();
    let expected: Vec<_> =
        (2..2 + ids.len()).map(|id| Key::new(&Arc::from("p"), "", &id.to_string())).collect();
    assert_eq!(ids, expected);
}

#[test]
fn a_batch_that_no_message_holds_is_refused_with_the_bytes_that_are_allowed() {
    let mut world = World::new(Limits { payload_bytes: 500, pack_bytes: 300, ..Limits::default() });
    world.offer(1, &[event("a", &"x".repeat(350))]);
    world.offer(2, &[event("b", &"x".repeat(450))]);
    let answers = world.door.take_answers();
    let [(2, Err(Error::Refused(Refused::TooLarge { bytes, bytes_max })))] = answers[..] else {
        panic!("{answers:?}")
    };
    assert_eq!(bytes_max, 500 - pack::HEAD_BYTES);
    assert!(bytes > bytes_max);
    let sealed = world.seal();
    assert!(
        sealed.len() == 1 && sealed[0].payload.len() <= 500,
        "one alone may be larger than a pack gathers to"
    );
}

#[test]
fn no_more_waits_than_may() {
    let mut world = World::new(Limits { packs: 0, batches: 2, ..Limits::default() });
    (0..3).for_each(|reply| world.offer(reply, &[event(&format!("{reply}"), "")]));
    let answers = world.door.take_answers();
    assert!(matches!(&answers[..], [answer @ (2, _)] if is_unavailable(answer)), "{answers:?}");
    let mut world = World::new(Limits { packs: 0, bytes: 300, ..Limits::default() });
    world.offer(0, &[event("a", &"x".repeat(1_000))]);
    world.offer(1, &[event("b", "")]);
    let answers = world.door.take_answers();
    assert!(matches!(&answers[..], [answer @ (1, _)] if is_unavailable(answer)), "{answers:?}");
}

#[test]
fn what_waits_too_long_is_refused_and_what_was_sent_is_unknown() {
    let mut world = World::new(Limits { packs: 1, ..Limits::default() });
    world.offer(1, &[event("a", "")]);
    let sealed = world.seal();
    world.door.offer(batch(&[event("b", "")]), 2, Duration::from_secs(1));
    assert_eq!(world.door.next_expiry(), Some(ANSWER_WITHIN));
    world.door.expire(ANSWER_WITHIN - Duration::from_millis(1));
    assert!(world.door.take_answers().is_empty());
    world.door.expire(ANSWER_WITHIN);
    let answers = world.door.take_answers();
    assert!(matches!(&answers[..], [answer @ (1, _)] if is_unknown(answer)), "{answers:?}");
    let due = world.door.next_expiry().unwrap();
    assert_eq!(due, ANSWER_WITHIN + Duration::from_secs(1));
    world.door.expire(due);
    let answers = world.door.take_answers();
    assert!(matches!(&answers[..], [answer @ (2, _)] if is_unavailable(answer)), "{answers:?}");
    // It may come all the same; then whoever asks again finds out.
    world.read(&sealed[0].payload);
    world.offer(3, &[event("a", "")]);
    assert_eq!(world.settle(), [(3, Ok(vec![again(at(1, 0))]))]);
}

/// Else a hub would look at the time again and again until the others in that pack are answered.
#[test]
fn a_pack_of_which_some_was_answered_is_due_with_the_rest() {
    let mut world = World::new(Limits::default());
    world.offer(1, &[event("a", "")]);
    world.door.offer(batch(&[event("b", "")]), 2, Duration::from_secs(2));
    assert_eq!(world.seal().len(), 1);
    world.door.expire(ANSWER_WITHIN);
    let answers = world.door.take_answers();
    assert!(matches!(&answers[..], [answer @ (1, _)] if is_unknown(answer)), "{answers:?}");
    assert_eq!(world.door.next_expiry(), Some(ANSWER_WITHIN + Duration::from_secs(2)));
}

#[test]
fn what_comes_back_before_an_earlier_pack_refuses_it() {
    let mut world = World::new(Limits::default());
    world.offer(1, &[event("a", "")]);
    let first = world.seal();
    world.offer(2, &[event("b", "")]);
    let second = world.seal();
    world.read(&second[0].payload);
    let answers = world.door.take_answers();
    assert!(matches!(&answers[..], [lost @ (1, _), (2, Ok(_))] if is_unavailable(lost)), "{answers:?}");
    assert_eq!(world.read(&first[0].payload), Read::Overtaken(HubId(1), 1), "and it surely is");
    world.offer(3, &[event("a", "")]);
    assert_eq!(world.settle(), [(3, Ok(vec![own(at(3, 0))]))]);
}

#[test]
fn a_pack_that_may_lie_in_a_hole_is_unknown_when_a_later_one_comes_back() {
    let mut world = World::new(Limits::default());
    world.offer(1, &[event("a", "")]);
    world.seal();
    world.offer(2, &[event("b", "")]);
    let second = world.seal();
    world.stored += 1; // the first one, and it was gone before this hub came to it
    world.read(&second[0].payload);
    let mut answers = world.door.take_answers();
    answers.sort_by_key(|(reply, _)| *reply);
    // The second claims from before the hole too.
    assert!(answers.len() == 2 && answers.iter().all(is_unknown), "{answers:?}");
}

#[test]
fn a_pack_that_no_broker_took_is_refused_and_the_others_go_on() {
    let mut world = World::new(Limits::default());
    world.offer(1, &[event("a", "")]);
    world.offer(2, &[event("b", "")]);
    let first = world.seal();
    world.offer(3, &[event("c", "")]);
    let second = world.seal();
    assert_eq!((first.len(), second.len()), (1, 1));
    world.door.refused(1, "no responders");
    let answers = world.door.take_answers();
    assert!(answers.len() == 2 && answers.iter().all(is_unavailable), "{answers:?}");
    world.read(&second[0].payload);
    assert_eq!(world.door.take_answers(), [(3, Ok(vec![own(at(1, 0))]))]);
}

#[test]
fn nothing_is_taken_before_the_log_was_read_nor_behind_the_end() {
    let mut door = Door::new(settings(Limits::default()));
    door.offer(batch(&[event("a", "")]), 1, Duration::ZERO);
    assert!(matches!(&door.take_answers()[..], [answer @ (1, _)] if is_unavailable(answer)));
    let mut world = World::new(Limits { packs: 1, ..Limits::default() });
    world.offer(1, &[event("a", "")]);
    world.seal();
    world.offer(2, &[event("b", "")]);
    world.door.end("the stream is another one");
    world.offer(3, &[event("c", "")]);
    let mut answers = world.door.take_answers();
    answers.sort_by_key(|(reply, _)| *reply);
    assert!(
        is_unknown(&answers[0]) && is_unavailable(&answers[1]) && is_unavailable(&answers[2]),
        "{answers:?}"
    );
}

#[test]
fn records_that_were_published_are_known_by_the_key_that_they_have_together() {
    let mut world = World::new(Limits::default());
    let now = Now { mono: Duration::ZERO, unix_ms: 5 };
    let member =
        v1::Membership { recipient: "user:1".into(), topic: "x".into(), ..v1::Membership::default() };
    let with = |id: &str, content: &str| {
        let key = Key::new(&Arc::from("p"), "/s", id);
        Batch::memberships(std::slice::from_ref(&member), now)
            .with_key(Some((key, crate::Content::of([content.as_bytes()]))))
    };
    assert!(!world.door.knows(&with("a", "1"), Duration::ZERO));
    world.door.offer(with("a", "1"), 1, Duration::ZERO);
    assert_eq!(world.settle(), [(1, Ok(vec![own(at(1, 0))]))]);
    assert!(world.door.knows(&with("a", "1"), Duration::ZERO));
    assert!(world.door.knows(&with("a", "2"), Duration::ZERO), "and will be refused as such");
    assert!(!world.door.knows(&with("b", "1"), Duration::ZERO));
    assert!(!world.door.knows(&Batch::memberships(std::slice::from_ref(&member), now), Duration::ZERO));
    world.door.offer(with("a", "1"), 2, Duration::ZERO);
    assert_eq!(world.settle(), [(2, Ok(vec![again(at(1, 0))]))]);
}

#[test]
fn a_key_that_may_have_been_published_is_claimed_by_nobody_here() {
    let mut door = Door::new(Settings { first: 2, ..settings(Limits::default()) });
    let mut told = Vec::new();
    door.caught_up(&mut told);
    let mut payload = Vec::new();
    pack::put_head(&mut payload, &pack::Head { epoch: EPOCH, hub: HubId(2), number: 1, read: 0 });
    pack::put_request(&mut payload, &batch(&[event("a", "")]));
    let message = Message { number: 2, stamp_unix_ms: 1_000_000, payload: payload.into() };
    door.read(&message, Duration::ZERO, &mut told).unwrap();
    door.offer(batch(&[event("b", ""), event("a", "")]), 1, Duration::ZERO);
    assert!(door.seal(Duration::ZERO).is_none());
    let answers = door.take_answers();
    assert!(matches!(&answers[..], [answer @ (1, _)] if is_unknown(answer)), "{answers:?}");
}

#[test]
fn keys_are_forgotten_as_time_goes_by_though_nothing_comes() {
    let mut world = World::new(Limits::default());
    world.offer(1, &[event("a", "1")]);
    world.settle();
    let age = DedupBounds::default().age;
    world.door.offer(batch(&[event("a", "2")]), 2, age);
    assert!(world.door.seal(age).is_none(), "it is known as long as the window says");
    assert!(matches!(&world.door.take_answers()[..], [(2, Err(Error::Refused(Refused::IdReused { .. })))]));
    let later = age + Duration::from_millis(1);
    world.door.offer(batch(&[event("a", "2")]), 3, later);
    assert!(world.door.seal(later).is_some());
    assert_eq!(world.door.dedup_horizon(later), age);
}

#[test]
fn a_hub_that_lacks_messages_says_that_it_knows_less() {
    let mut door = Door::<u32>::new(Settings { first: 9, ..settings(Limits::default()) });
    let message = Message { number: 9, stamp_unix_ms: 1_000_000, payload: Bytes::new() };
    door.read(&message, Duration::from_secs(50), &mut Vec::new()).unwrap();
    assert_eq!(door.dedup_horizon(Duration::from_secs(57)), Duration::from_secs(7));
}

/// So does one for which messages are gone while it reads.
#[test]
fn a_hub_that_has_missed_messages_says_that_it_knows_less() {
    let mut world = World::new(Limits::default());
    world.offer(1, &[event("a", "")]);
    world.settle();
    assert_eq!(world.door.dedup_horizon(Duration::from_secs(3)), DedupBounds::default().age);
    world.stored += 2;
    world.read(&Bytes::new());
    assert_eq!(world.door.dedup_horizon(Duration::from_secs(7)), Duration::from_secs(7 - 3));
}
