//! The window against a list that is trimmed by hand, and the table of every cursor at every boundary.

use super::*;
use crate::cursor::{Epoch, Seq, StartFrom};
use proptest::prelude::*;

const EPOCH: Epoch = Epoch(1);

fn at(seq: u64) -> Cursor {
    Cursor { epoch: EPOCH, seq: Seq(seq) }
}

fn framed(length: usize) -> Vec<u8> {
    let mut frame = vec![0; crate::frame::PREFIX_BYTES + length];
    crate::frame::put_prefix(&mut frame, 0);
    frame
}

/// What the window must be: every append ever, and a rule for each bound.
#[derive(Default)]
struct Model {
    all: Vec<(u64, Duration, usize)>,
    dropped: usize,
}

impl Model {
    fn trim(&mut self, bounds: Bounds, now: Duration) {
        while let Some((_, first_at, _)) = self.all.get(self.dropped) {
            let held = &self.all[self.dropped..];
            let bytes: usize = held.iter().map(|(_, _, length)| length).sum();
            let within = now - *first_at <= bounds.age
                && held.len() as u64 <= bounds.events
                && bytes as u64 <= bounds.bytes;
            if within {
                break;
            }
            self.dropped += 1;
        }
    }
}

#[derive(Clone, Debug)]
enum Op {
    Append(usize),
    Wait(u64),
    Find(u64),
    Read(u64, usize),
}

fn ops() -> impl Strategy<Value = Vec<Op>> {
    let op = prop_oneof![
        4 => (0usize..60).prop_map(Op::Append),
        1 => (0u64..40).prop_map(Op::Wait),
        2 => (0u64..80).prop_map(Op::Find),
        2 => (0u64..80, 1usize..200).prop_map(|(slot, bytes)| Op::Read(slot, bytes)),
    ];
    prop::collection::vec(op, 1..120)
}

proptest! {
    #[test]
    fn holds_exactly_what_is_within_every_bound(
        ops in ops(), age in 1u64..60, events in 1u64..20, bytes in 1u64..600, chunk in 1usize..300,
    ) {
        let bounds = Bounds { age: Duration::from_millis(age), events, bytes };
        let mut window = Window::with_chunk_bytes(at(0), bounds, chunk);
        let (mut model, mut now, mut seq) = (Model::default(), Duration::ZERO, 0);
        for op in ops {
            match op {
                Op::Append(length) => {
                    seq += 1;
                    let frame = framed(length);
                    window.append(at(seq), Traits::PLAIN, &frame, now);
                    model.all.push((seq, now, frame.len()));
                }
                Op::Wait(ms) => now += Duration::from_millis(ms),
                Op::Find(asked) => check_find(&window, asked, seq)?,
                Op::Read(slot, bytes) => check_read(&window, &model, Slot(slot), bytes)?,
            }
            window.trim(now);
            model.trim(bounds, now);
            let held = &model.all[model.dropped..];
            prop_assert_eq!(window.len(), held.len() as u64);
            prop_assert_eq!(window.held_bytes(), held.iter().map(|(_, _, length)| *length as u64).sum::<u64>());
            prop_assert_eq!(window.head(), at(seq));
            prop_assert_eq!(window.floor(), at(seq - held.len() as u64));
            let seen: Vec<_> = window.entries(window.oldest()..window.end()).map(|entry| entry.cursor.seq.0).collect();
            prop_assert_eq!(seen, held.iter().map(|(seq, _, _)| *seq).collect::<Vec<_>>());
        }
    }
}

fn check_find(window: &Window, asked: u64, head: u64) -> Result<(), TestCaseError> {
    let start = window.find(StartFrom::At(at(asked)), "text");
    let floor = window.floor().seq.0;
    let expected = match asked {
        _ if asked > head => Outcome::Ahead,
        _ if asked < floor => Outcome::Trimmed,
        _ => Outcome::Resumed,
    };
    prop_assert_eq!(start.outcome, expected);
    let first = window.get(start.next).map(|entry| entry.cursor.seq.0);
    let resumes_at = if expected == Outcome::Ahead { head } else { asked.max(floor) };
    prop_assert_eq!(first, (resumes_at < head).then_some(resumes_at + 1));
    prop_assert_eq!(start.gap.is_some(), expected != Outcome::Resumed);
    if expected == Outcome::Trimmed {
        prop_assert_eq!(start.gap.and_then(|gap| gap.count), Some(floor - asked));
    }
    Ok(())
}

fn check_read(window: &Window, model: &Model, slot: Slot, bytes_max: usize) -> Result<(), TestCaseError> {
    if window.get(slot).is_none() {
        prop_assert!(window.bytes(slot..slot.next()).is_empty());
        return Ok(());
    }
    let run = window.plain_run(slot, 1 << 20, bytes_max);
    let bytes = window.bytes(run.clone());
    let lengths: Vec<_> = (run.start.0..run.end.0).map(|slot| model.all[slot as usize].2).collect();
    prop_assert!(!lengths.is_empty());
    prop_assert_eq!(bytes.len(), lengths.iter().sum::<usize>());
    prop_assert!(bytes.len() <= bytes_max || lengths.len() == 1);
    Ok(())
}

/// Five events, then one bound cuts to the last three: positions 3, 4, 5 are held, the floor is 2.
fn cut_by(bounds: Bounds) -> Window {
    let mut window = Window::new(at(0), bounds);
    for seq in 1..=5 {
        window.append(at(seq), Traits::PLAIN, &framed(5), Duration::from_secs(seq));
    }
    window.trim(Duration::from_secs(5));
    window
}

#[test]
fn every_cursor_has_one_outcome_whichever_bound_cut() {
    let wide = Bounds { age: Duration::from_secs(99), events: 99, bytes: 999 };
    for bounds in [
        Bounds { age: Duration::from_secs(2), ..wide },
        Bounds { events: 3, ..wide },
        Bounds { bytes: 30, ..wide },
    ] {
        let window = cut_by(bounds);
        assert_eq!((window.floor(), window.head()), (at(2), at(5)), "{bounds:?}");
        let other = Cursor { epoch: Epoch(9), seq: Seq(4) };
        for (ask, outcome, passed, count) in [
            (StartFrom::At(at(0)), Outcome::Trimmed, 2, Some(Some(2))), // two before the oldest resumable
            (StartFrom::At(at(1)), Outcome::Trimmed, 2, Some(Some(1))),
            (StartFrom::At(at(2)), Outcome::Resumed, 2, None), // just before the oldest held still counts
            (StartFrom::At(at(3)), Outcome::Resumed, 3, None),
            (StartFrom::At(at(5)), Outcome::Resumed, 5, None),
            (StartFrom::At(at(6)), Outcome::Ahead, 5, Some(None)),
            (StartFrom::At(other), Outcome::EpochChanged, 2, Some(None)),
            (StartFrom::Foreign, Outcome::EpochChanged, 2, Some(None)),
            (StartFrom::Head, Outcome::Fresh, 5, None),
            (StartFrom::Oldest, Outcome::Fresh, 2, None),
        ] {
            let start = window.find(ask, "presented");
            assert_eq!((start.outcome, start.position), (outcome, at(passed)), "{ask:?} {bounds:?}");
            assert_eq!(start.gap.as_ref().map(|gap| gap.count), count, "{ask:?} {bounds:?}");
            let first = window.get(start.next).map(|entry| entry.cursor);
            assert_eq!(first, (passed < 5).then(|| at(passed + 1)), "{ask:?} {bounds:?}");
        }
    }
}

#[test]
fn an_empty_window_resumes_at_its_head() {
    let mut window = cut_by(Bounds { age: Duration::from_secs(2), events: 99, bytes: 999 });
    window.trim(Duration::from_secs(60));
    assert!(window.is_empty());
    assert_eq!(window.find(StartFrom::At(at(5)), "").outcome, Outcome::Resumed);
    assert_eq!(window.find(StartFrom::At(at(4)), "").outcome, Outcome::Trimmed);
    assert_eq!(window.find(StartFrom::Oldest, "").position, at(5));
}

/// An edge under a hub that was restarted: 3 and 4 of one epoch, a gap into the next, then 8 of it.
fn across_epochs() -> (Window, Epoch) {
    let second = Epoch(2);
    let mut window = Window::new(at(2), Bounds::default());
    window.append(at(3), Traits::PLAIN, &framed(1), Duration::ZERO);
    window.append(at(4), Traits::PLAIN, &framed(1), Duration::ZERO);
    window.append(Cursor { epoch: second, seq: Seq(7) }, Traits::GAP, &framed(1), Duration::ZERO);
    window.append(Cursor { epoch: second, seq: Seq(8) }, Traits::PLAIN, &framed(1), Duration::ZERO);
    (window, second)
}

#[test]
fn an_old_epoch_stays_readable_while_it_is_held() {
    let (window, second) = across_epochs();
    let next = |cursor| window.get(window.find(StartFrom::At(cursor), "").next).map(|entry| entry.cursor);
    let into = Cursor { epoch: second, seq: Seq(7) };
    assert_eq!(next(at(3)), Some(at(4)));
    assert_eq!(next(at(4)), Some(into));
    assert_eq!(next(at(400)), Some(into), "beyond what this edge saw of it: the gap comes next");
    assert_eq!(next(into), Some(into.next()));
    assert_eq!(window.find(StartFrom::At(at(1)), "").outcome, Outcome::Trimmed);
    assert_eq!(window.find(StartFrom::At(Cursor { epoch: second, seq: Seq(9) }), "").outcome, Outcome::Ahead);
}

#[test]
fn an_epoch_that_was_trimmed_whole_has_changed() {
    let (window, second) = across_epochs();
    let mut cut = Window::new(window.floor(), Bounds { events: 1, ..Bounds::default() });
    for entry in window.entries(window.oldest()..window.end()) {
        cut.append(entry.cursor, entry.traits, entry.frame, entry.at);
    }
    let start = cut.find(StartFrom::At(at(4)), "held");
    assert_eq!(start.outcome, Outcome::EpochChanged);
    assert_eq!(start.position, Cursor { epoch: second, seq: Seq(7) });
    assert_eq!(start.gap.map(|gap| (gap.from, gap.count)), Some(("held".to_owned(), None)));
}

#[test]
fn sealed_chunks_are_shared_and_open_ones_copied() {
    let mut window = Window::with_chunk_bytes(at(0), Bounds::default(), 40);
    for seq in 1..=5 {
        window.append(at(seq), Traits::PLAIN, &framed(5), Duration::ZERO);
    }
    let first = window.bytes(Slot(0)..Slot(4));
    assert_eq!(first.as_ptr(), window.bytes(Slot(0)..Slot(2)).as_ptr(), "a slice of the same memory");
    assert_ne!(window.bytes(Slot(4)..Slot(5)).as_ptr(), window.bytes(Slot(4)..Slot(5)).as_ptr());
    assert!(window.bytes(Slot(3)..Slot(5)).is_empty(), "not one piece");
}

/// The fault: with too many clocks the oldest entries were judged by that of a later life of the hub, and dropped early.
#[test]
fn an_entry_whose_clock_was_dropped_is_as_old_as_its_stay() {
    let second = Duration::from_secs(1);
    let mut window = Window::new(at(0), Bounds::default());
    for life in 1..=30u64 {
        window.begin_clock();
        window.set_clock(Some(Offset::of(3_600_000 * life, second)));
        window.append(at(life), Traits::PLAIN, b"frame", second);
    }
    for slot in 0..30 {
        let stamped = 3_600_000 * (slot + 1);
        let entry = window.get(Slot(slot)).unwrap();
        assert_eq!(window.age(&entry, stamped, 5 * second), 4 * second, "life {}", slot + 1);
        // A second on its way: that is known of the later ones, and the earlier ones count from their arrival.
        let transit = if slot < 13 { 0 } else { 1 };
        let age = window.age(&entry, stamped - 1_000, 5 * second);
        assert_eq!(age, (4 + transit) * second, "life {}", slot + 1);
    }
}

/// The fault: what was lost before everything else was as young as the start, and held what came behind it in the window.
#[test]
fn what_is_lost_leaves_together_with_what_follows_it() {
    let second = Duration::from_secs(1);
    let bounds = Bounds { age: 60 * second, ..Bounds::default() };
    let mut window = Window::with_chunk_bytes(at(0), bounds, 10);
    window.lose(at(2), 100 * second);
    window.lose(at(3), 100 * second);
    window.append(at(4), Traits::PLAIN, &framed(9), 50 * second);
    window.append(at(5), Traits::PLAIN, &framed(9), 70 * second);
    window.lose(at(7), 100 * second);
    window.append(at(8), Traits::PLAIN, &framed(9), 80 * second);
    window.lose(at(9), 100 * second);
    assert_eq!((window.held_bytes(), window.len(), window.head()), (42, 7, at(9)));
    for (now, held, floor) in [
        (110, 7, 0),
        (111, 4, 4),
        (130, 4, 4),
        (131, 3, 5),
        (140, 3, 5),
        (141, 1, 8),
        (160, 1, 8),
        (161, 0, 9),
    ] {
        window.trim(now * second);
        assert_eq!((window.len(), window.floor()), (held, at(floor)), "after {now} s");
    }
}

#[test]
fn an_entry_keeps_the_clock_of_the_stream_that_it_came_on() {
    let second = Duration::from_secs(1);
    let mut window = Window::new(Cursor::start(Epoch(1)), Bounds::default());
    let append = |window: &mut Window, seq| {
        window.append(Cursor { epoch: Epoch(1), seq: Seq(seq) }, Traits::PLAIN, b"frame", second);
        window.end()
    };
    window.set_clock(Some(Offset::of(100_000, second)));
    append(&mut window, 1);
    // The hub starts again, and its clock is a minute behind; then another stream of the same.
    for seq in [2, 3] {
        window.begin_clock();
        window.set_clock(Some(Offset::of(40_000, second)));
        append(&mut window, seq);
    }
    let age = |slot: u64, unix_ms| {
        let entry = window.get(Slot(slot)).unwrap();
        window.age(&entry, unix_ms, 5 * second)
    };
    assert_eq!(age(0, 99_000), 5 * second);
    assert_eq!(age(1, 40_000), 4 * second);
    assert_eq!(age(2, 40_000), 4 * second);
}

/// Three entries of a log whose positions have holes; the first has left.
#[test]
fn a_gap_between_positions_with_holes_is_of_the_same_log_and_has_no_count() {
    let epoch = Epoch::with_holes(5);
    let at = |message| Cursor::end_of_message(epoch, message);
    let mut window = Window::new(at(0), Bounds { events: 2, ..Bounds::default() });
    for message in [1, 2, 4] {
        window.append(at(message), Traits::PLAIN, &framed(5), Duration::ZERO);
    }
    let start = window.find(StartFrom::At(at(0)), "held");
    let told = start.gap.map(|gap| (gap.reason, gap.to, gap.count));
    assert_eq!((start.outcome, told), (Outcome::Trimmed, Some((GapReason::Trimmed, at(1), None))));
    assert_eq!(
        window.find(StartFrom::At(at(3)), "").outcome,
        Outcome::Resumed,
        "a position in a hole is one"
    );
    for reason in [GapReason::Lapped, GapReason::Upstream, GapReason::Damaged] {
        let gap = MissingRange::between(reason, at(1), at(4)).map(|gap| (gap.reason, gap.to, gap.count));
        assert_eq!(gap, Some((reason, at(4), None)));
        assert_eq!(MissingRange::between(reason, at(4), at(4)), None, "nothing was missed");
        assert_eq!(MissingRange::between(reason, at(4), at(1)), None, "nor by whoever is further on");
    }
    let other = Cursor::start(Epoch::with_holes(6));
    let gap = MissingRange::between(GapReason::Upstream, at(4), other).map(|gap| (gap.reason, gap.count));
    assert_eq!(gap, Some((GapReason::EpochChanged, None)), "another log is another log");
}
