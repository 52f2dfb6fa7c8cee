//! Logs that go on while the window is in another one, and readers that come from another gateway, further on than the
//! window: whatever turns it takes, nothing comes twice and no return is kept from anybody.

use std::collections::BTreeMap;

use super::*;

fn of(epoch: u128, seq: u64) -> Cursor {
    Cursor { epoch: Epoch(epoch), seq: Seq(seq) }
}

#[derive(Clone, Debug)]
enum Op {
    /// In the log of this epoch, whoever follows it.
    Publish(u128),
    /// The window takes so many of what its log has more.
    Follow(u64),
    /// The window goes to this log, where it was before or begins.
    Turn(u128),
    Steps(usize),
    Reconnect,
    /// The reader takes all of its log at another gateway, until it connects here again.
    Elsewhere,
}

fn ops() -> impl Strategy<Value = Vec<Op>> {
    let op = prop_oneof![
        5 => (1u128..4).prop_map(Op::Publish),
        4 => (1u64..4).prop_map(Op::Follow),
        2 => (1u128..4).prop_map(Op::Turn),
        4 => (1usize..6).prop_map(Op::Steps),
        2 => Just(Op::Reconnect),
        1 => Just(Op::Elsewhere),
    ];
    prop::collection::vec(op, 1..150)
}

/// Three logs, and a window that follows one of them at a time.
struct Logs {
    window: Window,
    heads: BTreeMap<u128, u64>,
    /// How far the window came in each.
    taken: BTreeMap<u128, u64>,
    /// Every entry that the window ever had, gaps included.
    entries: Vec<(Cursor, bool)>,
}

impl Logs {
    fn follow(&mut self, most: u64) {
        for _ in 0..most {
            let next = self.window.head().next();
            if next.seq.0 > self.heads.get(&next.epoch.0).copied().unwrap_or(0) {
                return;
            }
            append(&mut self.window, "all", seconds(0));
            self.taken.insert(next.epoch.0, next.seq.0);
            self.entries.push((next, true));
        }
    }

    fn turn(&mut self, epoch: u128) {
        if epoch == self.window.head().epoch.0 {
            return;
        }
        let seq = |of: &BTreeMap<u128, u64>| of.get(&epoch).copied().unwrap_or(0);
        self.window.log_reached(of(epoch, seq(&self.heads)));
        let to = of(epoch, seq(&self.taken));
        self.window.append(to, Traits::GAP, &framed(None, "", None, seconds(0)), Duration::ZERO);
        self.entries.push((to, false));
    }

    /// As a gateway does that asks its hub about what it does not know.
    fn open(&self, cursor: Cursor) -> Reader {
        if cursor.follows(self.window.head()) {
            Reader::open_awaiting(&self.window, cursor, Settings::default())
        } else {
            open(&self.window, StartFrom::At(cursor))
        }
    }
}

struct Client {
    /// `None` while it is elsewhere.
    reader: Option<Reader>,
    cursor: Cursor,
    /// By epoch, how far this stream came, or the cursor that it was opened with.
    stood: BTreeMap<u128, u64>,
    /// What the window had before this entry is no news to it.
    since: usize,
}

impl Client {
    fn step(&mut self, logs: &Logs) -> Result<(), TestCaseError> {
        let Some(reader) = &mut self.reader else { return Ok(()) };
        let step = reader.step(&logs.window, None, seconds(0));
        let next = reader.next().since(Slot::default()) as usize;
        match &step {
            Step::Send(slots) => {
                for entry in logs.window.entries(slots.clone()) {
                    if entry.traits.has(Traits::GAP) {
                        self.missed(entry.cursor)?;
                    } else {
                        let stood = self.stood.get(&entry.cursor.epoch.0).copied();
                        prop_assert_eq!(
                            stood.map(|seq| seq + 1),
                            Some(entry.cursor.seq.0),
                            "{}",
                            entry.cursor
                        );
                        self.stand(entry.cursor);
                    }
                }
            }
            Step::Control(Control::Gap(gap)) => {
                prop_assert_eq!(&gap.from, &self.cursor.to_string(), "begins elsewhere: {:?}", gap);
                self.missed(gap.to)?;
            }
            Step::Control(Control::Welcome { outcome: Outcome::Resumed, .. }) => self.resumed(logs, next)?,
            Step::Control(Control::Progress { cursor } | Control::CaughtUp { cursor }) => {
                prop_assert_eq!(self.cursor.epoch, cursor.epoch, "another log untold");
                prop_assert!(!self.cursor.follows(*cursor), "back to {}", cursor);
            }
            _ => return Ok(()),
        }
        self.since = next;
        Ok(())
    }

    fn missed(&mut self, to: Cursor) -> Result<(), TestCaseError> {
        let stood = self.stood.get(&to.epoch.0).copied().unwrap_or(0);
        prop_assert!(to.seq.0 >= stood, "a gap to {} back from {}", to, stood);
        self.stand(to);
        Ok(())
    }

    fn stand(&mut self, at: Cursor) {
        self.cursor = at;
        self.stood.insert(at.epoch.0, at.seq.0);
    }

    /// Nothing of another log lies between what it knows and where it goes on, if the window was in its log before.
    fn resumed(&self, logs: &Logs, next: usize) -> Result<(), TestCaseError> {
        let (known, news) = (&logs.entries[..self.since], &logs.entries[self.since.min(next)..next]);
        if known.iter().any(|(cursor, _)| cursor.epoch == self.cursor.epoch) {
            let untold = news.iter().find(|(cursor, event)| *event && cursor.epoch != self.cursor.epoch);
            prop_assert_eq!(untold, None, "resumed at {} in silence", self.cursor);
        }
        Ok(())
    }

    fn open(&mut self, logs: &Logs) {
        self.reader = Some(logs.open(self.cursor));
        self.stood.clear();
        self.stand(self.cursor);
    }
}

proptest! {
    #[test]
    fn a_reader_that_was_elsewhere_is_handed_nothing_twice_and_told_of_every_return(
        ops in ops(), events in 1u64..25,
    ) {
        let window = window(Bounds { events, ..Bounds::default() });
        let mut logs =
            Logs { window, heads: BTreeMap::new(), taken: BTreeMap::new(), entries: vec![(at(0), false)] };
        // Slots are counted from the first entry, which is the place before all others here.
        logs.window.append(at(0), Traits::GAP, &framed(None, "", None, seconds(0)), Duration::ZERO);
        let stood = BTreeMap::from([(EPOCH.0, 0)]);
        let mut client = Client { reader: None, cursor: at(0), stood, since: 1 };
        for op in ops {
            match op {
                Op::Publish(epoch) => *logs.heads.entry(epoch).or_default() += 1,
                Op::Follow(most) => logs.follow(most),
                Op::Turn(epoch) => logs.turn(epoch),
                Op::Steps(steps) => (0..steps).try_for_each(|_| client.step(&logs))?,
                Op::Reconnect => client.open(&logs),
                Op::Elsewhere => {
                    let Cursor { epoch, seq } = client.cursor;
                    let head = logs.heads.get(&epoch.0).copied().unwrap_or(0);
                    client.cursor = of(epoch.0, head.max(seq.0));
                    (client.reader, client.since) = (None, logs.entries.len());
                }
            }
        }
        if client.reader.is_none() {
            client.open(&logs);
        }
        (0..400).try_for_each(|_| client.step(&logs))?;
        prop_assert_eq!(client.reader.map(|reader| reader.next()), Some(logs.window.end()));
    }
}
