//! A log that comes back: nothing of it is handed over twice, and every way from one log to another is told.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;

#[test]
fn a_log_that_comes_back_goes_on_where_it_was_left() {
    check_from(
        "a0",
        "begin | receive welcome@a0 a1 a2 a3 | handled | lost | timer \
         | begin | receive welcome@a3 gap:2:a3@b0 b1 | handled | lost | timer \
         | begin | receive welcome@b1 gap:2:b1@a0 a1 a2 | handled | receive progress@a2 a3 a4 caught@a4 | handled",
        r#"
        deliver welcome@a0 a1 a2 a3
        read within 15000, catching up at "a3"
        wait 200, backing off at "a3"
        dial 1 within 5000
        subscribe 2 from "a3" within 5000
        read within 5000, connecting at "a3"
        deliver welcome@a3 gap:EpochChanged:a3..b0 b1
        read within 15000, catching up at "b1"
        wait 200, backing off at "b1"
        dial 0 within 5000
        subscribe 3 from "b1" within 5000
        read within 5000, connecting at "b1"
        deliver welcome@b1 gap:EpochChanged:b1..a3
        read within 15000, catching up at "a3"
        deliver progress@a3 a4 caughtup@a4
        read within 15000, live at "a4"
        "#,
    );
}

#[test]
fn what_was_missed_of_a_log_that_comes_back_is_told() {
    let mut world = World::new(Config { start: long("a0"), ..Config::default() });
    world.play_all(&["begin", "receive welcome@a0 a1 gap:2:a1@b0 b1 gap:2:b1@a9 a10"]);
    let expected = "deliver welcome@a0 a1 gap:EpochChanged:a1..b0 b1 gap:EpochChanged:b1..a9 a10";
    assert_eq!(world.transcript.lines().last().unwrap(), expected);
}

#[test]
fn a_gap_that_leads_on_is_a_frame_like_any_other() {
    let gap = |word: &str| {
        let Some(Ok(Item::Gap(gap))) = Item::of(Kind::Gap, Frame::read(frame(word).into()).unwrap()) else {
            panic!("no gap")
        };
        gap
    };
    let a = |seq| Cursor { epoch: Epoch(u128::from(b'a')), seq: Seq(seq) };
    let led = gap("gap:2:b1@a0").leading_to(a(3));
    assert_eq!((led.from.as_str(), led.to.as_str()), (&*long("b1"), &*long("a3")));
    let Some(Ok(Item::Gap(again))) = Item::of(Kind::Gap, led.frame.clone()) else { panic!("no gap") };
    assert_eq!(*again, led);
    assert_eq!(led.clone().leading_to(a(3)), led);
}

/// The fault: a mark that was a repeat lost the hub's time on its way.
#[test]
fn a_frame_at_another_position_has_all_its_other_fields() {
    let mut bytes = frame("progress@a3");
    bytes.extend_from_slice(&[9 << 3 | 1]);
    bytes.extend_from_slice(&1_700_000_000_000_u64.to_le_bytes());
    put_prefix(&mut bytes, 0);
    let moved = Frame::read(bytes.into()).unwrap().at(Cursor { epoch: Epoch(u128::from(b'a')), seq: Seq(5) });
    assert_eq!((moved.cursor(), moved.view().appended_unix_ms()), (&*long("a5"), 1_700_000_000_000));
}

/// The fault: a gap that could not be read counted as received, and the events in it as had when the next stream brought them.
#[test]
fn what_a_broken_gap_would_have_passed_over_is_handed_over_by_the_next_stream() {
    let mut world = World::new(Config { start: long("a5"), ..Config::default() });
    world.play_all(&["begin", "receive welcome@a5 badgap@a9", "handled", "timer", "begin"]);
    world.play("receive welcome@a5 a6 a9");
    let out = world.transcript.lines().last().unwrap();
    assert!(out.ends_with("a6 a9"), "{out}");
}

#[test]
fn only_the_last_epochs_are_remembered_and_an_older_one_is_told_as_a_new_one() {
    let mut world = World::new(Config { start: long("a0"), ..Config::default() });
    world.play_all(&["begin", "receive welcome@a0 a1"]);
    let remembered = crate::cursor::EPOCHS_REMEMBERED as u8;
    for left in 0..=remembered {
        world.play(&format!("receive gap:2:x@{}0", char::from(b'b' + left)));
        world.play("handled");
    }
    world.play("receive gap:2:x@a0 a1");
    let out = world.transcript.lines().last().unwrap();
    assert!(out.ends_with("..a0 a1"), "told, and handed again: {out}");
}

#[test]
fn after_a_cursor_that_the_hub_cannot_read_nothing_is_handed_over_again() {
    let mut world = World::new(Config { start: long("a0"), ..Config::default() });
    world.play_all(&["begin", "receive welcome@a0 a1 a2 a3 caught@a3", "handled", "lost", "timer"]);
    world.play_all(&["begin", "status 3 CURSOR_MALFORMED"]);
    assert_eq!(last(&world), "deliver gap:CursorUnreadable:a3..");
    world.play_all(&["handled", "begin", "receive welcome@a0 a1 a2 a3 a4 caught@a4"]);
    assert_eq!(last(&world), "deliver welcome@a0 a4 caughtup@a4");
    world.play("handled");
    assert_eq!(world.link.status().counters.duplicates, 3);
    // What it missed of the log meanwhile, and another log, come whole: the gap has told of it.
    world.play_all(&["lost", "timer", "begin", "status 3 CURSOR_MALFORMED", "handled"]);
    world.play_all(&["begin", "receive welcome@a9 a10"]);
    assert_eq!(last(&world), "deliver welcome@a9 a10");
    world.play_all(&["handled", "lost", "timer", "begin", "status 3 CURSOR_MALFORMED", "handled"]);
    world.play_all(&["begin", "receive welcome@b0 b1"]);
    assert_eq!(last(&world), "deliver welcome@b0 b1");
}

fn last(world: &World) -> &str {
    world.transcript.lines().last().unwrap()
}

#[derive(Clone, Debug)]
enum Op {
    Publish(usize, u64),
    /// Reads so many frames.
    Read(u64),
    /// The stream breaks; the next one is at this hub.
    Go(usize),
    /// A hub forgets its oldest events but so many.
    Trim(usize, u64),
}

fn ops() -> impl Strategy<Value = Vec<Op>> {
    let op = prop_oneof![
        3 => (0usize..3, 1u64..4).prop_map(|(hub, count)| Op::Publish(hub, count)),
        5 => (1u64..6).prop_map(Op::Read),
        2 => (0usize..3).prop_map(Op::Go),
        1 => (0usize..3, 0u64..4).prop_map(|(hub, held)| Op::Trim(hub, held)),
    ];
    prop::collection::vec(op, 1..80)
}

/// Independent hubs, and a link that is led from one to the other.
struct Hubs {
    world: World,
    /// Of each: the floor and the head.
    logs: [(u64, u64); 3],
    at: usize,
    /// What the present stream has sent.
    sent: u64,
    /// Of each log: the positions handed over, with what was told before each.
    had: BTreeMap<char, u64>,
    log: char,
}

fn letter(hub: usize) -> char {
    char::from(b'a' + hub as u8)
}

impl Hubs {
    /// Subscribes at the present hub, as a hub answers.
    fn subscribe(&mut self) -> Result<(), TestCaseError> {
        let (floor, head) = self.logs[self.at];
        let name = letter(self.at);
        self.world.play("begin");
        let resume = short(&self.world.link.status().cursor);
        let (epoch, seq) = (resume.chars().next().unwrap(), resume[1..].parse::<u64>().unwrap());
        let line = if epoch == name && (floor..=head).contains(&seq) {
            self.sent = seq;
            format!("receive welcome@{resume}")
        } else {
            self.sent = floor;
            let reason = if epoch == name { 1 } else { 2 };
            format!("receive welcome@{resume} gap:{reason}:{resume}@{name}{floor}")
        };
        self.deliver(&line)
    }

    fn deliver(&mut self, line: &str) -> Result<(), TestCaseError> {
        self.world.play(line);
        if self.world.action != Action::Deliver {
            return Ok(());
        }
        for item in self.world.link.batch_mut().items() {
            let position = short(item.cursor());
            let (log, seq) = (position.chars().next().unwrap(), position[1..].parse::<u64>().unwrap());
            let had = self.had.entry(log).or_default();
            match item {
                Item::Gap(_) => {
                    prop_assert!(seq >= *had, "a gap leads back to {position}, and {had} were had");
                    (*had, self.log) = (seq, log);
                }
                Item::Event(_) => {
                    prop_assert_eq!(log, self.log, "another log without a gap");
                    prop_assert_eq!(seq, *had + 1, "missed untold, or handed twice");
                    *had = seq;
                }
                _ => {}
            }
        }
        self.world.play("handled");
        Ok(())
    }

    fn play(&mut self, op: Op) -> Result<(), TestCaseError> {
        match op {
            Op::Publish(hub, count) => self.logs[hub].1 += count,
            Op::Read(count) => {
                let (_, head) = self.logs[self.at];
                let to = head.min(self.sent + count);
                let words: Vec<_> =
                    (self.sent + 1..=to).map(|seq| format!("{}{seq}", letter(self.at))).collect();
                self.sent = to;
                if !words.is_empty() {
                    self.deliver(&format!("receive {}", words.join(" ")))?;
                }
            }
            Op::Go(hub) => {
                self.at = hub;
                self.world.play("lost");
                self.world.play("timer");
                self.subscribe()?;
            }
            Op::Trim(hub, held) => {
                let (floor, head) = &mut self.logs[hub];
                *floor = (*floor).max(head.saturating_sub(held));
            }
        }
        Ok(())
    }
}

proptest! {
    #[test]
    fn whatever_log_it_is_led_to_nothing_is_missed_untold_or_handed_twice(ops in ops()) {
        let world = World::new(Config { start: long("a0"), ..Config::default() });
        let had = BTreeMap::from([('a', 0)]);
        let mut hubs = Hubs { world, logs: [(0, 0); 3], at: 0, sent: 0, had, log: 'a' };
        hubs.subscribe()?;
        for op in ops {
            hubs.play(op)?;
        }
        hubs.play(Op::Go(1))?;
        hubs.play(Op::Read(1_000))?;
        prop_assert_eq!(hubs.had.get(&'b').copied().unwrap_or_default(), hubs.logs[1].1);
    }
}
