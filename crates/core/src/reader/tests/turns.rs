//! Windows whose log turns into another one, and back: two hubs that were meant to be one log.

use super::*;

fn of(epoch: u128, seq: u64) -> Cursor {
    Cursor { epoch: Epoch(epoch), seq: Seq(seq) }
}

fn turn(window: &mut Window, to: Cursor) {
    window.append(to, Traits::GAP, &framed(None, "", None, seconds(0)), Duration::ZERO);
}

fn event(window: &mut Window) {
    append(window, "all", seconds(0));
}

/// A1 to A3, then B1 and B2 of another log, then A again: told up to A`back`, and one event more.
fn there_and_back(bounds: Bounds, back: u64) -> Window {
    let mut window = window(bounds);
    (1..=3).for_each(|_| event(&mut window));
    turn(&mut window, of(2, 0));
    (1..=2).for_each(|_| event(&mut window));
    turn(&mut window, at(back));
    event(&mut window);
    window
}

/// What a reader of the whole window is sent, epochs included.
fn sent(reader: &mut Reader, window: &Window) -> Vec<String> {
    let name =
        |cursor: Cursor| format!("{}{}", ["", "A", "B", "C", "D"][cursor.epoch.0 as usize], cursor.seq.0);
    let mut sent = Vec::new();
    loop {
        match reader.step(window, None, seconds(0)) {
            Step::WaitUntil(_) => return sent,
            Step::Again => {}
            Step::Send(slots) => sent.extend(window.entries(slots).map(|entry| {
                let gap = if entry.traits.has(Traits::GAP) { "gap→" } else { "" };
                format!("{gap}{}", name(entry.cursor))
            })),
            Step::Control(Control::Welcome { outcome, .. }) => sent.push(format!("{outcome:?}")),
            Step::Control(Control::Gap(gap)) => sent.push(format!("{:?}→{}", gap.reason, name(gap.to))),
            Step::Control(Control::CaughtUp { cursor } | Control::Progress { cursor }) => {
                sent.push(format!("@{}", name(cursor)));
            }
            Step::Control(Control::FellBehind { .. }) => {}
        }
    }
}

fn sent_to(window: &Window, cursor: Cursor) -> String {
    sent(&mut open(window, StartFrom::At(cursor)), window).join(" ")
}

#[test]
fn a_cursor_from_before_an_epoch_came_back_is_told_a_gap() {
    let whole = there_and_back(Bounds::default(), 3);
    let one = Bounds { events: 1, ..Bounds::default() };
    let trimmed = there_and_back(one, 3);
    assert_eq!(trimmed.floor(), at(3), "nothing of the other log is held, nor the gap");
    let mut again = there_and_back(one, 3);
    turn(&mut again, of(2, 2));
    event(&mut again);
    let mut long = window(one);
    event(&mut long);
    for epoch in 2..=crate::cursor::EPOCHS_REMEMBERED as u128 + 1 {
        turn(&mut long, of(epoch, 0));
    }
    turn(&mut long, at(1));
    event(&mut long);
    for (shows, window, cursors, expected) in [
        (
            "the stretch before",
            &whole,
            &[at(0), at(1), at(3), of(2, 0), of(2, 1), of(2, 2), of(9, 1)][..],
            "A3 A4 @A4",
        ),
        (
            "inside the gap that led back",
            &there_and_back(Bounds::default(), 9),
            &[at(4), at(8), at(9)],
            "A9 A10 @A10",
        ),
        ("what is not held any more makes a return no beginning", &trimmed, &[at(1), at(3)], "A3 A4 @A4"),
        ("the first stretch was gone before that", &again, &[at(4), of(2, 1), of(2, 2)], "B2 B3 @B3"),
        ("as many epochs as are remembered lie between", &long, &[at(1)], "A1 A2 @A2"),
    ] {
        for cursor in cursors {
            let expected = format!("EpochChanged EpochChanged→{expected}");
            assert_eq!(sent_to(window, *cursor), expected, "{shows}: {cursor}");
        }
    }
    assert_eq!(sent_to(&whole, at(4)), "Resumed @A4", "only the later stretch has this one");
    let mut all = open(&whole, StartFrom::Oldest);
    assert_eq!(sent(&mut all, &whole).join(" "), "Fresh A1 A2 A3 gap→B0 B1 B2 gap→A3 A4 @A4");
}

#[test]
fn a_reader_that_was_passed_by_both_turns_is_told_although_its_position_is_the_floor() {
    let mut window = window(Bounds { events: 1, ..Bounds::default() });
    (1..=3).for_each(|_| event(&mut window));
    let mut reader = open(&window, StartFrom::At(at(3)));
    assert_eq!(sent(&mut reader, &window).join(" "), "Resumed @A3");
    turn(&mut window, of(2, 0));
    event(&mut window);
    turn(&mut window, at(3));
    event(&mut window);
    assert_eq!(sent(&mut reader, &window).join(" "), "EpochChanged→A3 A4 @A4");
}

/// The fault: only what the window itself had of a log was remembered, and its readers were handed the rest again.
#[test]
fn a_reader_that_was_further_than_the_window_is_handed_nothing_twice_when_its_log_returns() {
    let mut window = window(Bounds::default());
    event(&mut window);
    turn(&mut window, of(2, 0));
    event(&mut window);
    let mut reader = open(&window, StartFrom::At(at(3)));
    reader.step(&window, None, seconds(0));
    let Step::Control(Control::Gap(gap)) = reader.step(&window, None, seconds(0)) else { panic!("no gap") };
    assert_eq!((gap.from, gap.to), (at(3).to_string(), of(2, 0)), "it had more than the window");
    assert_eq!(sent(&mut reader, &window).join(" "), "B1 @B1");
    window.log_reached(at(4));
    turn(&mut window, at(1));
    event(&mut window);
    assert_eq!(sent(&mut reader, &window).join(" "), "EpochChanged→A3", "A2 it has");
    (3..=4).for_each(|_| event(&mut window));
    assert_eq!(sent(&mut reader, &window).join(" "), "A4");
}

#[test]
fn what_a_reader_of_another_log_came_with_is_not_handed_to_it_when_that_returns() {
    let mut window = window(Bounds { events: 2, ..Bounds::default() });
    event(&mut window);
    turn(&mut window, of(2, 0));
    (1..=3).for_each(|_| event(&mut window));
    let mut reader = open(&window, StartFrom::At(at(3)));
    assert_eq!(sent(&mut reader, &window).join(" "), "EpochChanged EpochChanged→B1 B2 B3 @B3");
    turn(&mut window, at(1));
    event(&mut window);
    assert_eq!(sent(&mut reader, &window).join(" "), "EpochChanged→A3 @A3 @A3");
    (3..=9).for_each(|_| event(&mut window)); // more than the window holds
    assert_eq!(sent(&mut reader, &window).join(" "), "Lapped→A7 A8 A9 @A9");
}

/// The fault: a reader that had more of a log than the window when that left it resumed in silence after the return.
#[test]
fn a_position_beyond_where_the_window_left_a_log_is_told_of_the_return() {
    let mut window = window(Bounds::default());
    (1..=2).for_each(|_| event(&mut window));
    turn(&mut window, of(2, 0));
    event(&mut window);
    window.log_reached(at(4));
    turn(&mut window, at(2));
    event(&mut window);
    let mut early = Reader::open_awaiting(&window, at(4), Settings::default());
    assert_eq!(sent(&mut early, &window).join(" "), "EpochChanged EpochChanged→A4 @A4");
    (4..=5).for_each(|_| event(&mut window));
    assert_eq!(sent(&mut early, &window).join(" "), "A5");
    for (before, expected) in [(1, "A2 A3 A4 A5"), (2, "A2 A3 A4 A5"), (3, "A3 A4 A5"), (4, "A4 A5")] {
        let expected = format!("EpochChanged EpochChanged→{expected} @A5");
        assert_eq!(sent_to(&window, at(before)), expected, "{before}");
    }
    assert_eq!(sent_to(&window, at(5)), "Resumed @A5", "this one came after the return");
}

/// The fault: a log that had been forgotten counted as one that never was, and who had been in it resumed in silence.
#[test]
fn a_log_that_may_have_been_forgotten_is_taken_for_one_that_returns() {
    let mut window = window(Bounds { events: 4, ..Bounds::default() });
    (1..=3).for_each(|_| event(&mut window));
    let remembered = crate::cursor::EPOCHS_REMEMBERED as u128;
    for epoch in 2..=remembered + 2 {
        turn(&mut window, of(epoch, 0));
    }
    window.log_reached(at(4));
    turn(&mut window, at(0));
    (1..=4).for_each(|_| event(&mut window));
    assert_eq!(sent_to(&window, at(2)), "EpochChanged EpochChanged→A2 A3 A4 @A4");
    assert_eq!(sent_to(&window, at(4)), "EpochChanged EpochChanged→A4 @A4");
}

#[test]
fn whoever_waits_in_a_log_that_is_left_again_is_told() {
    let mut window = window(Bounds::default());
    event(&mut window);
    let mut reader = Reader::open_awaiting(&window, of(2, 5), Settings::default());
    assert_eq!(sent(&mut reader, &window).join(" "), "Resumed @B5");
    turn(&mut window, of(2, 0));
    event(&mut window);
    assert_eq!(sent(&mut reader, &window), [""; 0], "what it waits for is still to come");
    turn(&mut window, at(1));
    event(&mut window);
    assert_eq!(sent(&mut reader, &window).join(" "), "EpochChanged→A1 A2");
}

#[derive(Clone, Debug)]
enum Op {
    Append,
    /// Into this epoch, so many positions beyond what was held of it.
    Turn(u128, u64),
    Steps(usize),
    Reconnect,
    /// A reader that was elsewhere in between comes with a position it once held.
    Remember(usize),
}

fn ops() -> impl Strategy<Value = Vec<Op>> {
    let op = prop_oneof![
        6 => Just(Op::Append),
        2 => (1u128..4, 0u64..3).prop_map(|(epoch, beyond)| Op::Turn(epoch, beyond)),
        3 => (1usize..6).prop_map(Op::Steps),
        1 => Just(Op::Reconnect),
        1 => (0usize..60).prop_map(Op::Remember),
    ];
    prop::collection::vec(op, 1..150)
}

/// Every entry ever appended, in order, behind the position where the window began: what a reader must be handed, or told.
#[derive(Default)]
struct Log {
    entries: Vec<Cursor>,
    furthest: std::collections::BTreeMap<u128, u64>,
}

impl Log {
    fn append(&mut self, cursor: Cursor) {
        self.entries.push(cursor);
        self.furthest.insert(cursor.epoch.0, cursor.seq.0);
    }
}

/// Knows the last cursor, and how far in the log everything was handed to it or told.
struct Client {
    cursor: String,
    accounted: usize,
    held: Vec<(String, usize)>,
}

impl Client {
    fn take(&mut self, reader: &mut Reader, window: &Window, log: &Log) -> Result<(), TestCaseError> {
        let step = &reader.step(window, None, seconds(0));
        let index = |slot: Slot| slot.since(Slot::default()) as usize + 1;
        match step {
            Step::Send(slots) => {
                for entry in window.entries(slots.clone()) {
                    let index = index(entry.slot);
                    prop_assert_eq!(index, self.accounted, "untold, or handed twice: {}", entry.cursor);
                    (self.accounted, self.cursor) = (index + 1, entry.cursor.to_string());
                }
            }
            Step::Control(Control::Gap(gap)) => {
                let next = index(reader.next());
                prop_assert!(next >= self.accounted, "a gap that leads back: {:?}", gap);
                prop_assert_eq!(log.entries[next - 1], gap.to, "a gap that leads elsewhere");
                (self.accounted, self.cursor) = (next, gap.to.to_string());
            }
            Step::Control(Control::Progress { cursor } | Control::CaughtUp { cursor }) => {
                prop_assert_eq!(self.accounted, log.entries.len(), "untold before {:?}", step);
                self.cursor = cursor.to_string();
            }
            Step::Control(Control::FellBehind { cursor, .. }) => self.cursor = cursor.to_string(),
            Step::Control(Control::Welcome { .. }) | Step::Again | Step::WaitUntil(_) => {}
        }
        self.held.push((self.cursor.clone(), self.accounted));
        Ok(())
    }
}

proptest! {
    #[test]
    fn nothing_is_missed_untold_or_handed_twice_when_an_epoch_returns(ops in ops(), events in 1u64..25) {
        let mut window = window(Bounds { events, ..Bounds::default() });
        let mut log = Log::default();
        log.append(at(0));
        let mut reader = open(&window, StartFrom::Oldest);
        let mut client = Client { cursor: at(0).to_string(), accounted: 1, held: Vec::new() };
        let reopen = |window: &Window, cursor: &str| {
            Reader::open(window, StartFrom::parse(cursor).unwrap(), cursor, Settings::default())
        };
        for op in ops {
            match op {
                Op::Append => {
                    event(&mut window);
                    log.append(window.head());
                }
                Op::Turn(epoch, beyond) if epoch != window.head().epoch.0 => {
                    let to = of(epoch, log.furthest.get(&epoch).copied().unwrap_or(0) + beyond);
                    turn(&mut window, to);
                    log.append(to);
                }
                Op::Turn(..) => {}
                Op::Steps(steps) => {
                    for _ in 0..steps {
                        client.take(&mut reader, &window, &log)?;
                    }
                }
                Op::Reconnect => reader = reopen(&window, &client.cursor),
                Op::Remember(back) => {
                    let Some(index) = client.held.len().checked_sub(back + 1) else { continue };
                    client.held.truncate(index + 1);
                    (client.cursor, client.accounted) = client.held[index].clone();
                    reader = reopen(&window, &client.cursor);
                }
            }
        }
        for _ in 0..400 {
            client.take(&mut reader, &window, &log)?;
        }
        prop_assert_eq!(client.accounted, log.entries.len());
    }
}
