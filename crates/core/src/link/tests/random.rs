//! Random scripts against the promises of the link.

use proptest::prelude::*;

use super::*;

/// A hub, and a network between, that do anything at any moment.
fn any_line() -> impl Strategy<Value = String> {
    let word = prop_oneof![
        8 => (0u8..2, 0u64..12).prop_map(|(epoch, seq)| format!("{}{seq}", char::from(b'a' + epoch))),
        1 => Just("ephemeral".to_owned()),
        1 => Just("broken".to_owned()),
        6 => (prop::sample::select(vec!["welcome", "progress", "caught", "fell", "new", "record", "standing", "standing+", "welcome:1"]), 0u64..12)
            .prop_map(|(kind, seq)| format!("{kind}@a{seq}")),
        2 => (1u8..10, 0u8..2, 0u64..12).prop_map(|(reason, epoch, to)| format!("gap:{reason}:a1@{}{to}", char::from(b'a' + epoch))),
        1 => (0u8..6, 0u8..9).prop_map(|(reason, after)| format!("goodbye:{reason}:{after}@a3")),
    ];
    let words = || prop::collection::vec(word.clone(), 1..6).prop_map(|words| words.join(" "));
    prop_oneof![
        6 => Just("begin".to_owned()),
        6 => (0u8..4, words()).prop_map(|(at, words)| format!("receive welcome@a{at} {words}")),
        6 => words().prop_map(|words| format!("receive {words}")),
        6 => Just("handled".to_owned()),
        1 => (0u8..4).prop_map(|done| format!("fails {done}")),
        1 => Just("lost".to_owned()),
        1 => (1i32..18).prop_map(|code| format!("status {code}")),
        1 => Just("status 3 CURSOR_MALFORMED".to_owned()),
        3 => Just("timer".to_owned()),
        1 => (0u8..20).prop_map(|seconds| format!("later {seconds}")),
    ]
}

proptest! {
    #[test]
    fn whatever_happens_the_promises_hold(lines in prop::collection::vec(any_line(), 1..80), start in "(|oldest|a3|x)", standing: bool) {
        let config = Config { start: long(&start), hubs: 2, standing, ..Config::default() };
        let mut world = World::new(config);
        let (mut attempt, mut handed, mut untold) = (0, Vec::<Cursor>::new(), Vec::new());
        for line in lines {
            let before = world.link.status().clone();
            let was = world.action.clone();
            let offered: Vec<_> = world.link.batch_mut().items().iter().map(|item| item.cursor().to_owned()).collect();
            let last = world.link.batch_mut().items().iter().rev().take_while(|item| !matches!(item, Item::Gap(_)));
            let last = last.filter(|item| matches!(item, Item::Event(_))).find_map(|item| Cursor::parse(item.cursor()).ok());
            world.play(&line);
            let status = world.link.status();

            // The cursor moves only to what the handler was given, or past frames that no handler is given.
            if let (Action::Read { .. }, Some(words)) = (&was, line.strip_prefix("receive ")) {
                let new = words.split(' ').filter_map(|word| word.strip_prefix("new@"));
                untold = new.map(long).collect();
            }
            if status.cursor != before.cursor {
                prop_assert!(untold.contains(&status.cursor) || was == Action::Deliver && offered.contains(&status.cursor));
                prop_assert!(was != Action::Deliver || line == "handled" || line.starts_with("fails"));
            }
            // What was handled does not come again.
            if let (Action::Deliver, "handled", Some(last), Ok(cursor)) = (&was, &*line, last, Cursor::parse(&status.cursor)) {
                prop_assert!(!last.follows(cursor), "{last} is handled, and {cursor} is where it resumes");
            }
            if was == Action::Deliver && line != "handled" && !line.starts_with("fails") {
                prop_assert_eq!(&status.cursor, &before.cursor);
            }
            // The attempt rises by one with each subscribe, and only then.
            if let (Action::Subscribe { attempt: number, cursor, .. }, true) = (&world.action, was != world.action) {
                prop_assert!(*number > attempt);
                attempt = *number;
                prop_assert_eq!(cursor, &before.cursor);
            }
            // No wait without a reason, none without an end.
            if let Action::Wait { until } | Action::Pause { until } = world.action {
                prop_assert!(until <= world.now + Duration::from_secs(3601));
            }
            // Positions rise but across a gap.
            if world.action == Action::Deliver && was != Action::Deliver && !matches!(was, Action::Pause { .. }) {
                for item in world.link.batch_mut().items() {
                    let Ok(cursor) = Cursor::parse(item.cursor()) else { continue };
                    match item {
                        Item::Gap(gap) if gap.is_local() => handed.clear(),
                        Item::Gap(_) if handed.last().is_some_and(|last| last.epoch != cursor.epoch) => handed.clear(),
                        Item::Gap(gap) if gap.reason == Some(GapReason::Ahead) => handed.retain(|c| !c.follows(cursor)),
                        Item::Event(_) | Item::SessionInvalidation(_) => {
                            prop_assert!(handed.last().is_none_or(|last| cursor.follows(*last)), "{:?}", cursor);
                            handed.push(cursor);
                        }
                        _ => {}
                    }
                }
                if world.link.batch_mut().items().iter().any(|item| matches!(item, Item::Gap(gap) if gap.is_local())) {
                    handed.clear();
                }
            }
        }
        prop_assert_eq!(world.link.step(Input::Stop, world.now, 0), Action::Finish);
        prop_assert_eq!(world.link.status().state, State::Stopped);
        for input in [Input::Handled, Input::TimerFired, Input::Connected, Input::Stop] {
            prop_assert_eq!(world.link.step(input, world.now, 0), Action::Finish);
        }
    }
}

#[test]
fn the_local_gap_is_a_frame_like_any_other() {
    let gap = Gap::cursor_unreadable("rubbish");
    let read = Frame::read(gap.frame.framed().clone()).unwrap();
    assert_eq!((read.cursor(), read.view().kind()), ("oldest", Kind::Gap));
    let Some(Ok(Item::Gap(again))) = Item::of(Kind::Gap, read) else { panic!("no gap") };
    assert_eq!(*again, gap);
}
