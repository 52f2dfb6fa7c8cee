//! Windows over a store that has lost something: each reader is told from where it stands.

use super::*;

const ME: Option<&dyn Filter> = Some(&Only("user:me"));

/// What a reader is sent, with both ends of each gap.
fn sent(reader: &mut Reader, window: &Window, filter: Option<&dyn Filter>) -> String {
    let mut sent = Vec::new();
    loop {
        match reader.step(window, filter, seconds(0)) {
            Step::WaitUntil(_) => return sent.join(" "),
            Step::Again => {}
            Step::Send(slots) => {
                assert!(!window.bytes(slots.clone()).is_empty(), "sent without a frame");
                sent.extend(window.entries(slots).map(|entry| entry.cursor.seq.0.to_string()));
            }
            Step::Control(Control::Welcome { outcome, .. }) => sent.push(format!("{outcome:?}")),
            Step::Control(Control::Gap(gap)) => {
                let from = Cursor::parse(&gap.from).unwrap().seq.0;
                let (to, count) = (gap.to.seq.0, gap.count.unwrap());
                assert_eq!(gap.repair_after, None, "whoever sends it draws that");
                sent.push(format!("{:?}:{from}..{to}={count}", gap.reason));
            }
            Step::Control(Control::CaughtUp { cursor }) => sent.push(format!("@{}", cursor.seq.0)),
            Step::Control(other) => panic!("{other:?}"),
        }
    }
}

fn sent_to(window: &Window, ask: StartFrom, filter: Option<&dyn Filter>) -> String {
    sent(&mut open(window, ask), window, filter)
}

/// Two events, three positions that are lost, another event.
fn window_of(bounds: Bounds) -> Window {
    let mut window = window(bounds);
    append(&mut window, "user:me", seconds(0));
    append(&mut window, "nobody-knows", seconds(0));
    window.lose(at(5), Duration::ZERO);
    append(&mut window, "user:me", seconds(0));
    window
}

/// The fault: a live gateway that is told of damage waits for the records behind it and then for `CaughtUp`, which never came while
/// events did.
#[test]
fn a_live_reader_that_is_told_of_damage_is_told_when_it_has_caught_up() {
    let mut window = window(Bounds::default());
    let mut reader = open(&window, StartFrom::Head);
    assert_eq!(sent(&mut reader, &window, None), "Fresh @0");
    append(&mut window, "user:me", seconds(0));
    window.lose(at(3), Duration::ZERO);
    append(&mut window, "user:me", seconds(0));
    assert_eq!(sent(&mut reader, &window, None), "1 Damaged:1..3=2 4 @4");
    append(&mut window, "user:me", seconds(0));
    assert_eq!(sent(&mut reader, &window, None), "5");
}

#[test]
fn what_is_lost_is_told_in_its_place_from_where_the_reader_stands() {
    let window = window_of(Bounds::default());
    for (ask, expected) in [
        (StartFrom::Oldest, "Fresh 1 2 Damaged:2..5=3 6 @6"),
        (StartFrom::At(at(1)), "Resumed 2 Damaged:2..5=3 6 @6"),
        (StartFrom::At(at(2)), "Resumed Damaged:2..5=3 6 @6"),
        (StartFrom::At(at(3)), "Resumed Damaged:3..5=2 6 @6"),
        (StartFrom::At(at(4)), "Resumed Damaged:4..5=1 6 @6"),
        (StartFrom::At(at(5)), "Resumed 6 @6"),
        (StartFrom::At(at(6)), "Resumed @6"),
        (StartFrom::Head, "Fresh @6"),
    ] {
        assert_eq!(sent_to(&window, ask, None), expected, "{ask:?}");
    }
}

#[test]
fn no_filter_hides_what_is_lost_and_what_it_cannot_judge_is_told_first() {
    let window = window_of(Bounds::default());
    for (ask, filter, expected) in [
        (StartFrom::Oldest, ME, "Fresh 1 Upstream:1..2=1 Damaged:2..5=3 6 @6"),
        (StartFrom::Oldest, Some(&Only("user:other") as _), "Fresh Upstream:1..2=1 Damaged:2..5=3 @6"),
        (StartFrom::At(at(2)), Some(&Only("user:other") as _), "Resumed Damaged:2..5=3 @6"),
        (StartFrom::At(at(4)), ME, "Resumed Damaged:4..5=1 6 @6"),
    ] {
        assert_eq!(sent_to(&window, ask, filter), expected, "{ask:?}");
    }
}

#[test]
fn a_reader_that_awaits_a_position_is_told_what_is_lost_behind_it() {
    for filter in [None, ME] {
        for (awaited, expected) in
            [(3, "Damaged:3..5=2 6 @6"), (4, "Damaged:4..5=1 6 @6"), (5, "6 @6"), (6, "@6")]
        {
            let mut reader =
                Reader::open_awaiting(&window(Bounds::default()), at(awaited), Settings::default());
            let window = window_of(Bounds::default());
            assert_eq!(sent(&mut reader, &window, filter), format!("Resumed {expected}"), "{awaited}");
        }
    }
}

#[test]
fn what_has_left_the_window_is_told_once() {
    for (events, opening, lapped) in [
        (3, "Trimmed Trimmed:0..1=1 2 Damaged:2..5=3 6 @6", "Lapped:0..1=1 2 Damaged:2..5=3 6 @6"),
        (2, "Trimmed Trimmed:0..2=2 Damaged:2..5=3 6 @6", "Lapped:0..2=2 Damaged:2..5=3 6 @6"),
        (1, "Trimmed Trimmed:0..5=5 6 @6", "Lapped:0..5=5 6 @6"),
    ] {
        let bounds = Bounds { events, ..Bounds::default() };
        let window = window_of(bounds);
        assert_eq!(sent_to(&window, StartFrom::At(at(0)), None), opening, "{events} held");
        let mut reader = open(&super::window(bounds), StartFrom::Head);
        let empty = super::window(bounds);
        assert_eq!(sent(&mut reader, &empty, None), "Fresh @0");
        assert_eq!(sent(&mut reader, &window, None), lapped, "{events} held");
    }
}

#[test]
fn losses_lie_at_the_beginning_in_a_row_and_at_the_end() {
    let mut window = window(Bounds::default());
    window.lose(at(2), Duration::ZERO);
    window.lose(at(3), Duration::ZERO);
    append(&mut window, "user:me", seconds(0));
    window.lose(at(7), Duration::ZERO);
    let live = Traits::EPHEMERAL;
    window.append(at(7), live, &framed(None, "user:me", None, seconds(0)), Duration::ZERO);
    for filter in [None, ME] {
        let all = "Damaged:0..2=2 Damaged:2..3=1 4 Damaged:4..7=3 @7";
        assert_eq!(sent_to(&window, StartFrom::Oldest, filter), format!("Fresh {all}"));
        assert_eq!(sent_to(&window, StartFrom::At(at(0)), filter), format!("Resumed {all}"));
        let from_inside = "Resumed Damaged:1..2=1 Damaged:2..3=1 4 Damaged:4..7=3 @7";
        assert_eq!(sent_to(&window, StartFrom::At(at(1)), filter), from_inside);
        assert_eq!(sent_to(&window, StartFrom::At(at(7)), filter), "Resumed @7");
    }
}
