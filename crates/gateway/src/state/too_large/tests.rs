//! Which frame is taken for the one that was too large, and for how long that is remembered.

use std::net::Ipv4Addr;

use galaxy_push_core::cursor::{Epoch, Seq};
use galaxy_push_core::window::Bounds;
use proptest::prelude::*;

use super::*;

fn at(seq: u64) -> Cursor {
    Cursor { epoch: Epoch(1), seq: Seq(seq) }
}

fn sent(seqs: &[u64]) -> Vec<Frame> {
    seqs.iter().map(|&seq| Frame { at: at(seq), is_ephemeral: false }).collect()
}

fn ann() -> ReaderKey {
    ReaderKey::Named { user: Some("ann".into()), session: None }
}

const NOW: Duration = Duration::from_secs(9);

/// The slots of the frames noted of events of these sizes, which lie at slots 0, 1, ….
fn noted(sizes: &[usize]) -> Vec<(u64, usize)> {
    let mut written = LargestSent::default();
    for (&bytes, number) in sizes.iter().zip(0..) {
        written.note(Slot::default().plus(number), bytes);
    }
    written.0.iter().map(|&(slot, bytes)| (slot.since(Slot::default()), bytes)).collect()
}

proptest! {
    #[test]
    fn whatever_was_sent_the_largest_behind_any_cursor_is_known(
        sizes in prop::collection::vec(1..=FRAMES_MAX, 0..100),
        passed in 0_usize..100,
    ) {
        let expected = sizes.iter().copied().enumerate().skip(passed).rev().max_by_key(|&(_, bytes)| bytes);
        let found = noted(&sizes).into_iter().find(|&(slot, _)| slot >= passed as u64);
        // Of two as large the first is noted: whoever has passed it takes the other one, too.
        let smaller = |bytes: usize| sizes.iter().take(passed).all(|&before| before < bytes);
        match expected {
            Some((slot, bytes)) if smaller(bytes) => prop_assert_eq!(found, Some((slot as u64, bytes))),
            _ => {}
        }
    }

    #[test]
    fn however_many_were_sent_few_are_noted(sizes in prop::collection::vec(1_usize..1_000, 1..100)) {
        let noted = noted(&sizes);
        prop_assert!(noted.len() <= FRAMES_MAX);
        prop_assert!(noted.is_sorted_by(|a, b| a.0 < b.0 && a.1 > b.1), "{:?}", noted);
        let first = sizes.iter().copied().enumerate().rev().max_by_key(|&(_, bytes)| bytes);
        prop_assert_eq!(noted.first().map(|&(slot, _)| slot as usize), first.map(|(slot, _)| slot));
    }
}

#[test]
fn what_has_left_the_window_is_not_remembered_and_what_is_ephemeral_is_known_for_it() {
    let mut window = Window::new(at(0), Bounds { events: 3, ..Bounds::default() });
    let mut written = LargestSent::default();
    for (seq, traits) in [(1, Traits::PLAIN), (2, Traits::PLAIN), (2, Traits::EPHEMERAL), (3, Traits::PLAIN)]
    {
        written.note(window.end(), 100 - window.end().since(Slot::default()) as usize);
        window.append(at(seq), traits, b"frame", NOW);
    }
    let ephemeral = Frame { at: at(2), is_ephemeral: true };
    assert_eq!(written.frames(&window), [sent(&[2])[0], ephemeral, sent(&[3])[0]]);
}

#[test]
fn the_largest_behind_the_cursor_is_left_out_and_the_next_one_in_turn() {
    let readers = TooLarge::default();
    assert_eq!(readers.positions_to_skip(&ann(), StartFrom::At(at(2)), NOW), []);
    readers.record_close(ann(), sent(&[1, 5, 7]), NOW);
    assert_eq!(readers.positions_to_skip(&ann(), StartFrom::At(at(2)), NOW), [at(5)]);
    assert_eq!(
        readers.positions_to_skip(&ann(), StartFrom::At(at(2)), NOW),
        [at(5)],
        "still, and no other one"
    );
    readers.record_close(ann(), sent(&[3]), NOW);
    assert_eq!(readers.positions_to_skip(&ann(), StartFrom::At(at(2)), NOW), [at(5), at(3)]);
    readers.record_close(ann(), sent(&[8]), NOW);
    assert_eq!(readers.positions_to_skip(&ann(), StartFrom::Head, NOW), [], "nothing is replayed to it");
    assert_eq!(readers.positions_to_skip(&ann(), StartFrom::Oldest, NOW), [at(5), at(3), at(8)]);
    readers.record_close(ann(), sent(&[9]), NOW);
    assert_eq!(readers.positions_to_skip(&ann(), StartFrom::At(at(9)), NOW).len(), 3, "it has it");
}

#[test]
fn an_event_that_never_comes_again_costs_no_other_one() {
    let readers = TooLarge::default();
    let ephemeral = Frame { at: at(4), is_ephemeral: true };
    for cursor in [at(3), at(4)] {
        readers.record_close(ann(), vec![ephemeral, sent(&[5])[0]], NOW);
        assert_eq!(readers.positions_to_skip(&ann(), StartFrom::At(cursor), NOW), [], "{cursor}");
    }
    readers.record_close(ann(), vec![ephemeral, sent(&[6])[0]], NOW);
    assert_eq!(readers.positions_to_skip(&ann(), StartFrom::At(at(5)), NOW), [at(6)]);
}

#[test]
fn a_stream_may_lead_from_one_epoch_to_another() {
    let next = |seq| Cursor { epoch: Epoch(2), seq: Seq(seq) };
    let suspects = [at(5), next(3)].map(|at| Frame { at, is_ephemeral: false });
    for (cursor, found) in
        [(at(2), Some(at(5))), (at(5), Some(next(3))), (next(1), Some(next(3))), (next(3), None)]
    {
        assert_eq!(largest_behind(StartFrom::At(cursor), &suspects).map(|frame| frame.at), found, "{cursor}");
    }
}

#[test]
fn who_has_no_name_is_known_by_address_and_cursor() {
    let nobody = |last| ReaderKey::of(&Identity::default(), Some(Ipv4Addr::new(192, 0, 2, last).into()));
    let readers = TooLarge::default();
    readers.record_close(nobody(1), sent(&[5]), NOW);
    assert_eq!(readers.positions_to_skip(&nobody(2), StartFrom::At(at(4)), NOW), []);
    assert_eq!(
        readers.positions_to_skip(&nobody(1), StartFrom::At(at(5)), NOW),
        [],
        "somebody else at that address"
    );
    assert_eq!(readers.positions_to_skip(&nobody(1), StartFrom::At(at(4)), NOW), [at(5)]);
    assert_eq!(
        readers.positions_to_skip(&nobody(1), StartFrom::At(at(3)), NOW),
        [],
        "somebody else at that address"
    );
    assert_eq!(readers.positions_to_skip(&nobody(1), StartFrom::At(at(4)), NOW), [at(5)]);
    let session = Identity { session: Some("s".into()), ..Identity::default() };
    assert_eq!(ReaderKey::of(&session, None), ReaderKey::of(&session, Some(Ipv4Addr::LOCALHOST.into())));
}

#[test]
fn ten_minutes_and_so_many_readers_are_remembered() {
    let readers = TooLarge::default();
    let user = |number: usize| ReaderKey::Named { user: Some(number.to_string()), session: None };
    for number in 0..=READERS_MAX {
        readers.record_close(user(number), sent(&[5]), NOW + Duration::from_millis(number as u64));
    }
    assert_eq!(readers.len(NOW), READERS_MAX);
    let later = NOW + Duration::from_secs(599);
    assert_eq!(readers.positions_to_skip(&user(0), StartFrom::Oldest, later), [], "the first one had to go");
    assert_eq!(readers.positions_to_skip(&user(1), StartFrom::Oldest, later), [at(5)]);
    readers.record_close(user(2), Vec::new(), later);
    assert_eq!(readers.len(NOW + Duration::from_secs(605)), 1, "the one that came back since");
    assert_eq!(readers.positions_to_skip(&user(1), StartFrom::Oldest, later + REMEMBERED_FOR), []);
    assert_eq!(readers.len(later + REMEMBERED_FOR), 0);
}

#[test]
fn of_one_reader_so_many_positions_are_left_out() {
    let readers = TooLarge::default();
    let mut skipped = Vec::new();
    for seq in 1..=POSITIONS_MAX as u64 + 2 {
        readers.record_close(ann(), sent(&[seq]), NOW);
        skipped = readers.positions_to_skip(&ann(), StartFrom::Oldest, NOW);
    }
    assert_eq!((skipped.len(), skipped[0]), (POSITIONS_MAX, at(3)));
}
