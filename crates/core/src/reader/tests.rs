//! The reader against a naive client that holds it to its promises, and transcripts of the moments that matter.

use super::*;
use crate::cursor::{Epoch, Seq};
use crate::frame::{EventView, LogKind, put_log_frame};
use crate::window::{Bounds, Traits};
use crate::wire::put_bytes;
use proptest::prelude::*;

mod damaged;
mod elsewhere;
mod inside;
mod turns;

const EPOCH: Epoch = Epoch(1);

fn at(seq: u64) -> Cursor {
    Cursor { epoch: EPOCH, seq: Seq(seq) }
}

fn seconds(seconds: u64) -> Now {
    Now { mono: Duration::from_secs(seconds), unix_ms: 1_000 * seconds }
}

struct Only(&'static str);

impl Filter for Only {
    fn entitles(&self, event: EventView<'_>, _slot: Slot) -> Entitled {
        match event.recipients().next() {
            Some("nobody-knows") => Entitled::Unknown,
            first => (first == Some(self.0)).into(),
        }
    }
}

fn framed(cursor: Option<Cursor>, to: &str, ttl_s: Option<u8>, now: Now) -> Vec<u8> {
    let mut event = Vec::new();
    put_bytes(&mut event, 1, to.as_bytes());
    if let Some(ttl) = ttl_s {
        put_bytes(&mut event, 10, &[8, ttl]);
    }
    let mut frame = Vec::new();
    put_log_frame(&mut frame, LogKind::Event, cursor, &event, now.unix_ms);
    frame
}

fn append(window: &mut Window, to: &str, now: Now) {
    append_with(window, to, Traits::PLAIN, now);
}

fn append_with(window: &mut Window, to: &str, traits: Traits, now: Now) {
    let cursor = window.head().next();
    window.append(cursor, traits, &framed(Some(cursor), to, None, now), now.mono);
}

fn append_record(window: &mut Window, kind: LogKind, now: Now) {
    let (cursor, mut frame) = (window.head().next(), Vec::new());
    put_log_frame(&mut frame, kind, Some(cursor), b"\x0a\x06user:x", now.unix_ms);
    window.append(cursor, Traits::STANDING, &frame, now.mono);
}

fn window(bounds: Bounds) -> Window {
    Window::with_chunk_bytes(at(0), bounds, 300)
}

fn open(window: &Window, ask: StartFrom) -> Reader {
    let text = match ask {
        StartFrom::At(cursor) => cursor.to_string(),
        _ => String::new(),
    };
    Reader::open(window, ask, &text, Settings::default())
}

/// Runs the reader until it waits, and writes down what it sent.
fn transcript(reader: &mut Reader, window: &Window, filter: Option<&dyn Filter>, now: Now) -> String {
    let mut lines = Vec::new();
    loop {
        match reader.step(window, filter, now) {
            Step::WaitUntil(_) => return lines.join(" "),
            Step::Again => {}
            Step::Send(slots) => {
                lines.extend(window.entries(slots).map(|entry| entry.cursor.seq.0.to_string()));
            }
            Step::Control(control) => lines.push(match control {
                Control::Welcome { outcome, .. } => format!("{outcome:?}"),
                Control::Gap(gap) => format!("gap:{:?}..{}", gap.reason, gap.to.seq.0),
                Control::CaughtUp { cursor } => format!("caught-up@{}", cursor.seq.0),
                Control::Progress { cursor } => format!("progress@{}", cursor.seq.0),
                Control::FellBehind { cursor, events, .. } => format!("behind@{}+{events}", cursor.seq.0),
            }),
        }
    }
}

#[test]
fn every_stream_opens_in_order() {
    let mut window = window(Bounds { events: 3, ..Bounds::default() });
    (1..=5).for_each(|_| append(&mut window, "all", seconds(0)));
    for (ask, expected) in [
        (StartFrom::Head, "Fresh caught-up@5"),
        (StartFrom::Oldest, "Fresh 3 4 5 caught-up@5"),
        (StartFrom::At(at(3)), "Resumed 4 5 caught-up@5"),
        (StartFrom::At(at(5)), "Resumed caught-up@5"),
        (StartFrom::At(at(1)), "Trimmed gap:Trimmed..2 3 4 5 caught-up@5"),
        (StartFrom::At(at(9)), "Ahead gap:Ahead..5 caught-up@5"),
        (StartFrom::Foreign, "EpochChanged gap:EpochChanged..2 3 4 5 caught-up@5"),
    ] {
        let mut reader = open(&window, ask);
        assert_eq!(transcript(&mut reader, &window, None, seconds(0)), expected, "{ask:?}");
    }
}

/// The fault: a welcome echoed what is no cursor, and whoever sent that back was refused.
#[test]
fn what_is_no_cursor_is_not_echoed() {
    let window = window(Bounds::default());
    let mut reader = Reader::open(&window, StartFrom::Unreadable, "<script>", Settings::default());
    let step = reader.step(&window, None, seconds(0));
    let Step::Control(Control::Welcome { cursor, outcome, .. }) = step else { panic!("no welcome") };
    assert_eq!((cursor.as_str(), outcome), ("", Outcome::EpochChanged));
}

#[test]
fn nothing_but_the_gap_crosses_the_hole() {
    let mut window = window(Bounds { events: 3, ..Bounds::default() });
    (1..=5).for_each(|_| append(&mut window, "all", seconds(0)));
    let mut reader = open(&window, StartFrom::At(at(1)));
    assert_eq!(reader.resumes_from(), None, "nothing was said");
    reader.step(&window, None, seconds(0));
    assert_eq!(reader.resumes_from(), Some(at(1).to_string()), "welcomed, not told yet");
    reader.step(&window, None, seconds(0));
    assert_eq!(reader.resumes_from(), Some(at(2).to_string()), "told");
}

#[test]
fn silence_is_ended_by_progress() {
    let mut window = window(Bounds::default());
    let mut reader = open(&window, StartFrom::Head);
    let filter: Option<&dyn Filter> = Some(&Only("user:me"));
    assert_eq!(transcript(&mut reader, &window, filter, seconds(0)), "Fresh caught-up@0");
    append(&mut window, "user:other", seconds(1));
    assert_eq!(transcript(&mut reader, &window, filter, seconds(4)), "");
    assert_eq!(transcript(&mut reader, &window, filter, seconds(5)), "progress@1");
    assert_eq!(reader.step(&window, filter, seconds(5)), Step::WaitUntil(Duration::from_secs(10)));
    append(&mut window, "user:me", seconds(7));
    assert_eq!(transcript(&mut reader, &window, filter, seconds(7)), "2");
    assert_eq!(transcript(&mut reader, &window, filter, seconds(11)), "");
    assert_eq!(transcript(&mut reader, &window, filter, seconds(12)), "progress@2");
}

#[test]
fn a_filter_that_skips_an_eighth_of_the_window_says_so_between_batches() {
    let mut window = window(Bounds { events: 80, ..Bounds::default() });
    let mut reader = open(&window, StartFrom::Head);
    let filter: Option<&dyn Filter> = Some(&Only("user:me"));
    transcript(&mut reader, &window, filter, seconds(0));
    for seq in 1..=15 {
        let traits = if seq < 13 { Traits::CONTINUES } else { Traits::PLAIN };
        append_with(&mut window, "user:other", traits, seconds(0));
    }
    assert_eq!(transcript(&mut reader, &window, filter, seconds(0)), "progress@13");
}

#[test]
fn what_the_filter_cannot_judge_is_told_by_one_gap_before_what_lies_behind_it() {
    let mut window = window(Bounds::default());
    let filter: Option<&dyn Filter> = Some(&Only("user:me"));
    let log =
        ["user:me", "other", "nobody-knows", "other", "nobody-knows", "other", "user:me", "nobody-knows"];
    log.iter().for_each(|to| append(&mut window, to, seconds(0)));
    append_with(&mut window, "nobody-knows", Traits::PLAIN.with(Traits::EPHEMERAL), seconds(0));
    let mut reader = open(&window, StartFrom::At(at(0)));
    let expected = "Resumed 1 gap:Upstream..5 7 gap:Upstream..8 caught-up@9";
    assert_eq!(transcript(&mut reader, &window, filter, seconds(0)), expected);
}

#[test]
fn a_lagging_reader_is_warned_then_lapped_and_told() {
    let mut window = window(Bounds { events: 8, ..Bounds::default() });
    let mut reader = open(&window, StartFrom::Head);
    transcript(&mut reader, &window, None, seconds(0));
    (1..=4).for_each(|_| append(&mut window, "all", seconds(0)));
    assert_eq!(transcript(&mut reader, &window, None, seconds(0)), "behind@0+4 1 2 3 4 caught-up@4");
    (5..=20).for_each(|_| append(&mut window, "all", seconds(0)));
    let expected = "gap:Lapped..12 13 14 15 16 17 18 19 20 caught-up@20";
    assert_eq!(transcript(&mut reader, &window, None, seconds(0)), expected);
}

#[test]
fn only_live_readers_see_ephemeral_events_and_nobody_expired_ones() {
    let mut window = window(Bounds::default());
    let mut live = open(&window, StartFrom::Head);
    transcript(&mut live, &window, None, seconds(0));
    append(&mut window, "all", seconds(0));
    window.append(at(1), Traits::EPHEMERAL, &framed(None, "all", None, seconds(0)), Duration::ZERO);
    window.append(at(2), Traits::EXPIRES, &framed(Some(at(2)), "all", Some(3), seconds(0)), Duration::ZERO);
    assert_eq!(transcript(&mut live, &window, None, seconds(3)), "1 1 2");
    let mut late = open(&window, StartFrom::Oldest);
    assert_eq!(transcript(&mut late, &window, None, seconds(4)), "Fresh 1 caught-up@2");
    assert_eq!(late.omitted(), Omitted { expired: 1, too_large: 0 });
}

#[test]
fn an_event_too_large_for_the_peer_is_a_gap() {
    let mut window = window(Bounds::default());
    append(&mut window, "all", seconds(0));
    append(&mut window, &"x".repeat(200), seconds(0));
    append(&mut window, "all", seconds(0));
    let settings = Settings { message_max: 120, ..Settings::default() };
    let mut reader = Reader::open(&window, StartFrom::Oldest, "oldest", settings);
    let expected = "Fresh 1 gap:TooLarge..2 3 caught-up@3";
    assert_eq!(transcript(&mut reader, &window, None, seconds(0)), expected);
}

#[test]
fn a_heartbeat_may_be_as_rare_as_can_be_written() {
    let mut window = window(Bounds { age: Duration::MAX, ..Bounds::default() });
    append(&mut window, "all", seconds(0));
    window.trim(Duration::from_secs(9));
    let settings = Settings { heartbeat: Duration::MAX, ..Settings::default() };
    let mut reader = Reader::open(&window, StartFrom::Oldest, "oldest", settings);
    assert_eq!(transcript(&mut reader, &window, None, seconds(9)), "Fresh 1 caught-up@1");
    assert_eq!(transcript(&mut reader, &window, None, seconds(9_999)), "");
}

#[test]
fn a_position_the_authority_knows_is_awaited() {
    let mut window = window(Bounds::default());
    append(&mut window, "all", seconds(0));
    let mut reader = Reader::open_awaiting(&window, at(3), Settings::default());
    assert_eq!(transcript(&mut reader, &window, None, seconds(0)), "Resumed caught-up@3");
    (2..=4).for_each(|_| append(&mut window, "all", seconds(0)));
    assert_eq!(transcript(&mut reader, &window, None, seconds(0)), "4");
}

/// The fault: who came with a position beyond a gateway's window was told that it lags by what it has long had.
#[test]
fn what_an_awaiting_reader_has_is_no_lag() {
    for (upto, lag) in [(40, None), (60, Some("behind@30+30 "))] {
        let mut window = window(Bounds { events: 64, ..Bounds::default() });
        append(&mut window, "all", seconds(0));
        let mut reader = Reader::open_awaiting(&window, at(30), Settings::default());
        assert_eq!(transcript(&mut reader, &window, None, seconds(0)), "Resumed caught-up@30");
        (2..=upto).for_each(|_| append(&mut window, "all", seconds(0)));
        let sent = transcript(&mut reader, &window, None, seconds(0));
        let told = sent.contains("behind");
        assert!(lag.map_or(!told, |lag| sent.starts_with(lag)), "{sent}");
    }
}

#[test]
fn an_awaited_epoch_that_never_comes_is_told() {
    let (awaited, third) = (Cursor { epoch: Epoch(2), seq: Seq(5) }, Cursor { epoch: Epoch(3), seq: Seq(1) });
    let mut window = window(Bounds::default());
    let mut reader = Reader::open_awaiting(&window, awaited, Settings::default());
    transcript(&mut reader, &window, None, seconds(0));
    append(&mut window, "all", seconds(0));
    window.append(third, Traits::GAP, &framed(None, "", None, seconds(0)), Duration::ZERO);
    window.append(third.next(), Traits::PLAIN, &framed(None, "all", None, seconds(0)), Duration::ZERO);
    let Step::Control(Control::Gap(gap)) = reader.step(&window, None, seconds(0)) else { panic!("no gap") };
    assert_eq!((gap.reason, gap.from, gap.to), (GapReason::EpochChanged, awaited.to_string(), third));
    assert_eq!(transcript(&mut reader, &window, None, seconds(0)), "2", "what follows it");
    assert_eq!(reader.position(), third.next());
}

#[test]
fn a_gap_beyond_an_awaited_position_is_told_from_there() {
    let new = |seq| Cursor { epoch: Epoch(2), seq: Seq(seq) };
    let mut window = window(Bounds::default());
    let mut reader = Reader::open_awaiting(&window, new(5), Settings::default());
    transcript(&mut reader, &window, None, seconds(0));
    // The window itself comes from another epoch, but not this reader.
    window.append(new(9), Traits::GAP, &framed(None, "", None, seconds(0)), Duration::ZERO);
    let Step::Control(Control::Gap(gap)) = reader.step(&window, None, seconds(0)) else { panic!("no gap") };
    let told = (gap.reason, gap.from, gap.to, gap.count);
    assert_eq!(told, (GapReason::Upstream, new(5).to_string(), new(9), Some(4)));
}

#[test]
fn whoever_comes_from_inside_a_gap_into_another_epoch_is_told_from_there() {
    let new = |seq| Cursor { epoch: Epoch(2), seq: Seq(seq) };
    let mut window = window(Bounds::default());
    append(&mut window, "all", seconds(0));
    window.append(new(9), Traits::GAP, &framed(None, "", None, seconds(0)), Duration::ZERO);
    window.append(new(10), Traits::PLAIN, &framed(None, "all", None, seconds(0)), Duration::ZERO);
    for filter in [None, Some(&Only("all") as &dyn Filter)] {
        let mut reader = open(&window, StartFrom::At(new(5)));
        assert_eq!(
            transcript(&mut reader, &window, filter, seconds(0)),
            "Resumed gap:Upstream..9 10 caught-up@10"
        );
        // Who stood in the old epoch is handed what is held.
        let mut reader = open(&window, StartFrom::At(at(0)));
        assert_eq!(transcript(&mut reader, &window, filter, seconds(0)), "Resumed 1 9 10 caught-up@10");
    }
}

#[test]
fn a_reader_that_is_told_which_entries_concern_it_visits_only_those() {
    let mut window = window(Bounds { events: 6, ..Bounds::default() });
    let mut reader = open(&window, StartFrom::Head);
    transcript(&mut reader, &window, None, seconds(0));
    let first = window.end();
    (1..=4).for_each(|_| append(&mut window, "all", seconds(0)));
    let third = first.plus(2);
    assert_eq!(
        reader.read_at(&window, third, third.next(), None, seconds(0)),
        Step::Send(third..third.next())
    );
    reader.skip_to(window.end(), window.head());
    assert_eq!(reader.position(), at(4));
    let fifth = window.end();
    (5..=12).for_each(|_| append(&mut window, "all", seconds(0)));
    let told = reader.read_at(&window, fifth, fifth.next(), None, seconds(0));
    assert!(
        matches!(&told, Step::Control(Control::Gap(gap)) if gap.to == at(6) && gap.count == Some(2)),
        "{told:?}"
    );
    assert!(reader.next() > fifth);
}

#[derive(Clone, Debug)]
enum Op {
    Append {
        mine: bool,
    },
    /// A standing record: mine whatever I filter, if I know its kind.
    Record(LogKind),
    /// So many positions are lost: mine, whatever was in them.
    Lose(u64),
    Wait(u64),
    Steps(usize),
    /// Ends the stream and opens the next one with the last cursor a naive client holds.
    Reconnect,
}

fn ops() -> impl Strategy<Value = Vec<Op>> {
    let op = prop_oneof![
        6 => any::<bool>().prop_map(|mine| Op::Append { mine }),
        1 => prop_oneof![Just(LogKind::SessionInvalidation), Just(LogKind::Membership)].prop_map(Op::Record),
        1 => (1u64..4).prop_map(Op::Lose),
        1 => (0u64..4).prop_map(Op::Wait),
        3 => (1usize..6).prop_map(Op::Steps),
        1 => Just(Op::Reconnect),
    ];
    prop::collection::vec(op, 1..200)
}

/// Remembers the last non-empty cursor and what it was handed or told; knows nothing of windows.
struct Naive {
    cursor: String,
    accounted: u64,
    handed: Vec<u64>,
}

impl Naive {
    fn take(&mut self, step: &Step, window: &Window, mine: &[bool]) -> Result<(), TestCaseError> {
        match step {
            Step::Send(slots) => {
                prop_assert!(!window.bytes(slots.clone()).is_empty());
                for entry in window.entries(slots.clone()) {
                    let seq = entry.cursor.seq.0;
                    prop_assert!(seq > self.accounted, "{} after {}", seq, self.accounted);
                    let missed = (self.accounted + 1..seq).filter(|seq| mine[*seq as usize - 1]).count();
                    prop_assert_eq!(missed, 0, "missed before {} untold", seq);
                    self.handed.push(seq);
                    self.accounted = seq;
                    self.cursor = entry.cursor.to_string();
                }
            }
            Step::Control(Control::Gap(gap)) => {
                prop_assert!(gap.to.seq.0 > self.accounted);
                let from = Cursor::parse(&gap.from).map(|from| from.seq.0);
                prop_assert!(from.is_ok_and(|from| from >= self.accounted), "told again: {:?}", gap);
                self.accounted = gap.to.seq.0;
                self.cursor = gap.to.to_string();
            }
            Step::Control(
                Control::Progress { cursor }
                | Control::CaughtUp { cursor }
                | Control::FellBehind { cursor, .. },
            ) => {
                let missed =
                    (self.accounted + 1..=cursor.seq.0).filter(|seq| mine[*seq as usize - 1]).count();
                prop_assert_eq!(missed, 0, "untold before {:?}", step);
                self.accounted = self.accounted.max(cursor.seq.0);
                self.cursor = cursor.to_string();
            }
            Step::Control(Control::Welcome { cursor, .. }) => self.cursor.clone_from(cursor),
            Step::Again | Step::WaitUntil(_) => {}
        }
        Ok(())
    }
}

proptest! {
    #[test]
    fn a_client_that_sends_back_the_last_cursor_misses_nothing_untold(
        ops in ops(), events in 2u64..30, filtered: bool, from_oldest: bool, invalidations: bool, memberships: bool,
    ) {
        let records = Records { invalidations, memberships };
        let mut window = window(Bounds { events, ..Bounds::default() });
        let filter = filtered.then_some(&Only("user:me") as &dyn Filter);
        let ask = if from_oldest { StartFrom::Oldest } else { StartFrom::Head };
        let (mut reader, mut now, mut mine) = (open(&window, ask).taking(records), seconds(0), Vec::new());
        let mut client = Naive { cursor: String::new(), accounted: 0, handed: Vec::new() };
        for op in ops {
            match op {
                Op::Append { mine: for_me } => {
                    append(&mut window, if for_me { "user:me" } else { "user:other" }, now);
                    mine.push(for_me || !filtered);
                }
                Op::Record(kind) => {
                    append_record(&mut window, kind, now);
                    mine.push(if kind == LogKind::Membership { memberships } else { invalidations });
                }
                Op::Lose(count) => {
                    window.lose(window.head().plus(count), now.mono);
                    mine.extend((0..count).map(|_| true));
                }
                Op::Wait(ms) => now = Now { mono: now.mono + Duration::from_secs(ms), ..now },
                Op::Steps(steps) => {
                    for _ in 0..steps {
                        client.take(&reader.step(&window, filter, now), &window, &mine)?;
                    }
                }
                Op::Reconnect => {
                    let ask = StartFrom::parse(&client.cursor).unwrap();
                    if ask == StartFrom::Head {
                        client.accounted = window.head().seq.0;
                    }
                    reader = Reader::open(&window, ask, &client.cursor, Settings::default()).taking(records);
                }
            }
        }
        for _ in 0..1_000 {
            client.take(&reader.step(&window, filter, now), &window, &mine)?;
        }
        let last_mine = (1..=mine.len() as u64).rfind(|seq| mine[*seq as usize - 1]).unwrap_or(0);
        prop_assert!(client.accounted >= last_mine, "{} of {}", client.accounted, last_mine);
    }
}

#[test]
fn standing_records_are_hidden_by_no_filter_but_only_told_to_who_knows_them() {
    let mut window = window(Bounds::default());
    append_record(&mut window, LogKind::SessionInvalidation, seconds(0));
    append(&mut window, "user:x", seconds(0));
    append_record(&mut window, LogKind::Membership, seconds(0));
    let me: Option<&dyn Filter> = Some(&Only("user:me"));
    for (invalidations, memberships, everything, filtered) in [
        (true, true, "1 2 3", "1 3"),
        (true, false, "1 2", "1"),
        (false, true, "2 3", "3"),
        (false, false, "2", ""),
    ] {
        let records = Records { invalidations, memberships };
        for (filter, sent) in [(None, everything), (me, filtered)] {
            let mut reader = open(&window, StartFrom::Oldest).taking(records);
            let expected = ["Fresh", sent, "caught-up@3"].join(" ").replace("  ", " ");
            assert_eq!(transcript(&mut reader, &window, filter, seconds(0)), expected, "{records:?}");
        }
    }
}

#[test]
fn a_reader_that_is_asked_to_speaks_up_once() {
    let mut window = window(Bounds::default());
    let mut reader = open(&window, StartFrom::Head);
    reader.request_progress();
    assert_eq!(
        transcript(&mut reader, &window, None, seconds(1)),
        "Fresh caught-up@0",
        "a sign as good as any"
    );
    reader.request_progress();
    assert_eq!(transcript(&mut reader, &window, None, seconds(2)), "progress@0");
    assert_eq!(reader.step(&window, None, seconds(2)), Step::WaitUntil(Duration::from_secs(7)));
    append(&mut window, "all", seconds(3));
    reader.request_progress();
    assert_eq!(transcript(&mut reader, &window, None, seconds(3)), "1");
}

#[test]
fn passing_never_takes_a_position_back() {
    let mut window = window(Bounds::default());
    append(&mut window, "all", seconds(0));
    let end = window.end();
    let mut reader = open(&window, StartFrom::Oldest);
    transcript(&mut reader, &window, None, seconds(0));
    assert_eq!((reader.next(), reader.position()), (end, at(1)));
    window.advance(at(9)); // the head moved on with nothing to hold, so many positions share one slot
    reader.skip_to(end, at(9));
    reader.skip_to(end, at(4));
    assert_eq!(reader.position(), at(9));
}
