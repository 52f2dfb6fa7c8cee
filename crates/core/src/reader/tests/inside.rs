//! Windows that hold what their own reader was told to have missed, as those of gateways do: who comes from elsewhere may stand
//! in the middle of it.

use super::*;
use crate::wire::put_varint;

const ME: Option<&dyn Filter> = Some(&Only("user:me"));

/// A gap in the window, as the hub tells it.
fn miss(window: &mut Window, reason: u64, from: Cursor, to: Cursor, count: Option<u64>) {
    let mut gap = Vec::new();
    put_varint(&mut gap, 1 << 3);
    put_varint(&mut gap, reason);
    put_bytes(&mut gap, 2, from.to_string().as_bytes());
    put_bytes(&mut gap, 3, to.to_string().as_bytes());
    if let Some(count) = count {
        put_varint(&mut gap, 4 << 3);
        put_varint(&mut gap, count);
    }
    let mut frame = vec![0; 5];
    put_bytes(&mut frame, 1, to.to_string().as_bytes());
    put_bytes(&mut frame, 12, &gap);
    crate::frame::put_prefix(&mut frame, 0);
    window.append(to, Traits::GAP, &frame, Duration::ZERO);
}

/// What a reader is sent. A gap that is handed on as it lies is its position alone; one of the reader's own has both ends.
fn sent(reader: &mut Reader, window: &Window, filter: Option<&dyn Filter>) -> String {
    let mut sent = Vec::new();
    loop {
        match reader.step(window, filter, seconds(0)) {
            Step::WaitUntil(_) => return sent.join(" "),
            Step::Again => {}
            Step::Send(slots) => {
                sent.extend(window.entries(slots).map(|entry| {
                    let gap = if entry.traits.has(Traits::GAP) { "as-told:" } else { "" };
                    format!("{gap}{}", entry.cursor.seq.0)
                }));
            }
            Step::Control(Control::Welcome { outcome, .. }) => sent.push(format!("{outcome:?}")),
            Step::Control(Control::Gap(gap)) => {
                let from = Cursor::parse(&gap.from).unwrap().seq.0;
                let count = gap.count.map_or("?".to_owned(), |count| count.to_string());
                assert_eq!(gap.repair_after, None, "whoever sends it draws that");
                sent.push(format!("{:?}:{from}..{}={count}", gap.reason, gap.to.seq.0));
            }
            Step::Control(Control::CaughtUp { cursor }) => sent.push(format!("@{}", cursor.seq.0)),
            Step::Control(other) => panic!("{other:?}"),
        }
    }
}

/// Two events, a gap over three positions, another event.
fn window_of(reason: u64, count: Option<u64>) -> Window {
    let mut window = window(Bounds::default());
    append(&mut window, "user:me", seconds(0));
    append(&mut window, "user:me", seconds(0));
    miss(&mut window, reason, at(2), at(5), count);
    append(&mut window, "user:me", seconds(0));
    window
}

#[test]
fn whoever_stands_inside_what_was_missed_is_told_from_there() {
    let window = window_of(8, Some(3));
    for filter in [None, ME] {
        for (ask, expected) in [
            (StartFrom::Oldest, "Fresh 1 2 as-told:5 6 @6"),
            (StartFrom::At(at(1)), "Resumed 2 as-told:5 6 @6"),
            (StartFrom::At(at(2)), "Resumed as-told:5 6 @6"),
            (StartFrom::At(at(3)), "Resumed Damaged:3..5=2 6 @6"),
            (StartFrom::At(at(4)), "Resumed Damaged:4..5=1 6 @6"),
            (StartFrom::At(at(5)), "Resumed 6 @6"),
            (StartFrom::At(at(6)), "Resumed @6"),
        ] {
            assert_eq!(sent(&mut open(&window, ask), &window, filter), expected, "{ask:?}");
        }
    }
}

/// What became of the positions is told as it was; that the window's own reader came too late, or what this build does not know, as
/// a gap of the window. The count is what lies in the range, and no more than was told.
#[test]
fn what_is_told_inside_is_true_of_who_stands_there() {
    for (reason, told) in
        [(1, "Upstream"), (4, "Upstream"), (5, "Upstream"), (6, "TooLarge"), (8, "Damaged"), (99, "Upstream")]
    {
        for (count, expected) in [(Some(3), "2"), (Some(1), "1"), (None, "2")] {
            let window = window_of(reason, count);
            let sent = sent(&mut open(&window, StartFrom::At(at(3))), &window, ME);
            assert_eq!(sent, format!("Resumed {told}:3..5={expected} 6 @6"));
        }
    }
}

#[test]
fn a_reader_that_awaits_a_position_is_told_of_what_was_missed_behind_it() {
    for filter in [None, ME] {
        for (awaited, expected) in
            [(3, "Damaged:3..5=2 6 @6"), (4, "Damaged:4..5=1 6 @6"), (5, "6 @6"), (6, "@6")]
        {
            let mut reader =
                Reader::open_awaiting(&window(Bounds::default()), at(awaited), Settings::default());
            let window = window_of(8, Some(3));
            assert_eq!(sent(&mut reader, &window, filter), format!("Resumed {expected}"), "{awaited}");
        }
    }
}

/// Upstream had nothing for the window after 1 up to 3, so the gap begins there; whoever stands before that has missed no more.
#[test]
fn what_was_missed_begins_no_earlier_for_who_stands_before_it() {
    let mut window = window(Bounds::default());
    append(&mut window, "user:me", seconds(0));
    window.advance(at(3));
    miss(&mut window, 8, at(3), at(5), Some(2));
    for (from, expected) in
        [(1, "as-told:5 @5"), (2, "as-told:5 @5"), (3, "as-told:5 @5"), (4, "Damaged:4..5=1 @5")]
    {
        assert_eq!(
            sent(&mut open(&window, StartFrom::At(at(from))), &window, ME),
            format!("Resumed {expected}")
        );
    }
}

/// A mailbox names the gap, and the reader goes there without looking at what lies before.
#[test]
fn a_reader_that_visits_is_told_from_where_it_stands() {
    let window = window_of(8, Some(3));
    let mut reader = open(&window, StartFrom::At(at(3)));
    assert!(matches!(reader.step(&window, ME, seconds(0)), Step::Control(Control::Welcome { .. })));
    let slot = Slot::default().plus(2);
    let Step::Control(Control::Gap(gap)) = reader.read_at(&window, slot, slot.next(), ME, seconds(0)) else {
        panic!("no gap of its own")
    };
    assert_eq!((gap.from, gap.to, gap.count), (at(3).to_string(), at(5), Some(2)));
}

/// The gap leads into another epoch, and begins where the window stood in the old one.
#[test]
fn a_gap_into_another_epoch_begins_where_the_reader_stands() {
    let new = |seq| Cursor { epoch: Epoch(2), seq: Seq(seq) };
    let mut window = window(Bounds::default());
    (1..=4).for_each(|_| append(&mut window, "user:me", seconds(0)));
    // Told from a position that the window has passed since.
    miss(&mut window, 2, at(2), new(9), None);
    for (ask, expected) in [
        (StartFrom::At(at(4)), "Resumed EpochChanged:4..9=? @9"),
        (StartFrom::At(at(1)), "Resumed 2 3 4 EpochChanged:4..9=? @9"),
        (StartFrom::At(new(5)), "Resumed Upstream:5..9=4 @9"),
    ] {
        assert_eq!(sent(&mut open(&window, ask), &window, ME), expected, "{ask:?}");
    }
}

/// The window's log was left and came back within the gap: what another one had meanwhile nobody counts.
#[test]
fn nothing_is_counted_where_a_log_was_left_and_came_back() {
    let mut window = window(Bounds::default());
    (1..=4).for_each(|_| append(&mut window, "user:me", seconds(0)));
    miss(&mut window, 2, at(2), at(9), None);
    assert_eq!(sent(&mut open(&window, StartFrom::At(at(3))), &window, ME), "Resumed 4 Upstream:4..9=? @9");
}

/// A reader that awaited a position stands where the window stood when it comes there: the gap behind it is true as it lies.
#[test]
fn a_gap_right_behind_an_awaited_position_is_handed_on_as_it_lies() {
    let mut reader = Reader::open_awaiting(&window(Bounds::default()), at(2), Settings::default());
    assert_eq!(sent(&mut reader, &window_of(8, Some(3)), ME), "Resumed as-told:5 6 @6");
}
