//! A script of what happens in, a transcript of what the link does out; then random scripts against its promises.
//!
//! In scripts and transcripts `a6` is position 6 of epoch a, and an event there. Every delay takes its upper bound.

use std::fmt::Write as _;

use proptest::prelude::*;

use super::*;
use crate::cursor::{Epoch, Seq};
use crate::frame::{Kind, PREFIX_BYTES, put_event_frame, put_prefix};
use crate::window::GapReason;
use crate::wire::{put_bytes, put_varint};

#[track_caller]
fn check(script: &str, expected: &str) {
    check_from("", script, expected);
}

#[track_caller]
fn check_from(start: &str, script: &str, expected: &str) {
    let mut world = World::new(Config { start: long(start), hubs: 2, ..Config::default() });
    for line in script.split('|').map(str::trim) {
        world.play(line);
    }
    let expected: Vec<_> = expected.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
    assert_eq!(world.transcript.lines().collect::<Vec<_>>(), expected);
}

struct World {
    link: Link,
    action: Action,
    now: Duration,
    transcript: String,
}

impl World {
    fn new(config: Config) -> Self {
        let mut link = Link::try_new(config).unwrap();
        let action = link.start(Duration::ZERO);
        let mut world = Self { link, action, now: Duration::ZERO, transcript: String::new() };
        world.write();
        world
    }

    fn play_all(&mut self, lines: &[&str]) {
        lines.iter().for_each(|line| self.play(line));
    }

    fn play(&mut self, line: &str) {
        let (word, rest) = line.split_once(' ').unwrap_or((line, ""));
        let input = match word {
            "connected" => Input::Connected,
            "subscribed" => Input::Subscribed,
            "begin" => {
                self.step(Input::Connected);
                Input::Subscribed
            }
            "receive" => Input::Received(rest.split(' ').flat_map(frame).collect()),
            "handled" => Input::Handled,
            "fails" => {
                let done = if self.action == Action::Deliver { rest.parse().unwrap_or(0) } else { 0 };
                (0..done).for_each(|_| self.link.batch_mut().finish_one());
                Input::HandlerFailed("oops".into())
            }
            "lost" => Input::Failed(Failure::Lost("cut".into())),
            "status" => {
                let mut words = rest.split(' ');
                let code = words.next().unwrap().parse().unwrap();
                let status = ServerStatus::new(code, "").with_reason(words.next().unwrap_or_default());
                let retry_after = words.next().map(|s| Duration::from_secs(s.parse().unwrap()));
                Input::Failed(Failure::Status(status.with_retry_after(retry_after)))
            }
            "timer" => {
                self.now = self.now.max(self.until());
                Input::TimerFired
            }
            "later" => {
                self.now += Duration::from_secs(rest.parse().unwrap());
                return;
            }
            "stop" => Input::Stop,
            other => panic!("{other:?} is no word of a script"),
        };
        self.step(input);
    }

    fn step(&mut self, input: Input) {
        self.action = self.link.step(input, self.now, u64::MAX);
        self.write();
    }

    fn until(&self) -> Duration {
        match self.action {
            Action::Dial { until, .. }
            | Action::Subscribe { until, .. }
            | Action::Read { until }
            | Action::Pause { until }
            | Action::Wait { until } => until,
            Action::Deliver | Action::Finish => self.now,
        }
    }

    fn write(&mut self) {
        let left = self.until().saturating_sub(self.now).as_millis();
        let status = self.link.status().clone();
        let out = &mut self.transcript;
        match &self.action {
            Action::Dial { hub, .. } => write!(out, "dial {hub} within {left}"),
            Action::Subscribe { cursor, attempt, .. } => {
                write!(out, "subscribe {attempt} from {:?} within {left}", short(cursor))
            }
            Action::Read { .. } => {
                write!(out, "read within {left}, {} at {:?}", status.state, short(&status.cursor))
            }
            Action::Deliver => {
                let items = self.link.batch_mut().items().iter().map(name).collect::<Vec<_>>().join(" ");
                write!(out, "deliver {items}")
            }
            Action::Wait { .. } => {
                write!(out, "wait {left}, {} at {:?}", status.state, short(&status.cursor))
            }
            Action::Pause { .. } => {
                write!(out, "pause {left}, {} at {:?}", status.state, short(&status.cursor))
            }
            Action::Finish => write!(out, "{} at {:?}", status.state, short(&status.cursor)),
        }
        .unwrap();
        out.push('\n');
    }
}

/// `a6` as cursor text; anything else as it is.
fn long(text: &str) -> String {
    match (text.as_bytes().first(), text.get(1..).and_then(|seq| seq.parse().ok())) {
        (Some(epoch @ b'a'..=b'z'), Some(seq)) => {
            Cursor { epoch: Epoch(u128::from(*epoch)), seq: Seq(seq) }.to_string()
        }
        _ => text.to_owned(),
    }
}

fn short(text: &str) -> String {
    match Cursor::parse(text) {
        Ok(cursor) => format!("{}{}", char::from(cursor.epoch.0 as u8), cursor.seq.0),
        Err(_) => text.to_owned(),
    }
}

fn name(item: &Item) -> String {
    let cursor = short(item.cursor());
    match item {
        Item::Event(_) if cursor.is_empty() => "ephemeral".into(),
        Item::Event(_) => cursor,
        Item::Gap(gap) => format!("gap:{:?}:{}..{}", gap.reason.unwrap(), short(&gap.from), short(&gap.to)),
        other => format!("{:?}@{cursor}", other.frame().view().kind()).to_lowercase(),
    }
}

/// The framed bytes of one word: `a6`, `ephemeral`, `welcome@a6`, `gap:1:a2@a6`, `goodbye:1:9@a6`, `broken`, …
fn frame(word: &str) -> Vec<u8> {
    let (kind, cursor) = word.split_once('@').unwrap_or((word, ""));
    let mut fields = kind.split(':');
    let mut body = Vec::new();
    let field = match fields.next().unwrap() {
        "broken" => return vec![0, 0, 0, 0, 1, 0xff],
        "huge" => return vec![0, 0xff, 0, 0, 0],
        "ephemeral" => 2,
        "record" => 3,
        "welcome" => 10,
        "progress" => 11,
        "gap" => 12,
        "caught" => 13,
        "fell" => 14,
        "goodbye" => 15,
        "standing" => 16,
        "new" => 99,
        event => {
            let mut out = Vec::new();
            put_event_frame(&mut out, Cursor::parse(&long(event)).ok(), b"", 1);
            return out;
        }
    };
    if let Some(reason) = fields.next() {
        put_varint(&mut body, 1 << 3);
        put_varint(&mut body, reason.parse().unwrap());
    }
    match (field, fields.next()) {
        (12, Some(from)) => {
            put_bytes(&mut body, 2, long(from).as_bytes());
            put_bytes(&mut body, 3, long(cursor).as_bytes());
        }
        (15, Some(seconds)) => put_bytes(&mut body, 2, &[1 << 3, seconds.parse().unwrap()]),
        _ => {}
    }
    if fields.next() == Some("reconnect") {
        body.extend_from_slice(&[3 << 3, 1]);
    }
    let mut out = vec![0; PREFIX_BYTES];
    if !cursor.is_empty() {
        put_bytes(&mut out, 1, long(cursor).as_bytes());
    }
    put_bytes(&mut out, field, &body);
    put_prefix(&mut out, 0);
    out
}

#[test]
fn a_fresh_start_resumes_after_a_cut() {
    check(
        "connected | subscribed | receive welcome@a5 | handled | receive a6 a7 caught@a7 | handled | lost | timer",
        r#"
        dial 0 within 5000
        subscribe 1 from "" within 5000
        read within 5000, connecting at ""
        deliver welcome@a5
        read within 15000, catching up at "a5"
        deliver a6 a7 caughtup@a7
        read within 15000, live at "a7"
        wait 200, backing off at "a7"
        dial 1 within 5000
        "#,
    );
}

#[test]
fn a_stream_cut_before_its_first_event_still_resumes_where_it_started() {
    check(
        "begin | receive welcome@a5 | handled | lost | timer | connected",
        r#"
        dial 0 within 5000
        subscribe 1 from "" within 5000
        read within 5000, connecting at ""
        deliver welcome@a5
        read within 15000, catching up at "a5"
        wait 200, backing off at "a5"
        dial 1 within 5000
        subscribe 2 from "a5" within 5000
        "#,
    );
}

#[test]
fn the_cursor_moves_with_what_is_handled_and_not_with_what_is_received() {
    check(
        "begin | receive welcome@a5 a6 a7 a8 | fails 2 | timer | fails | timer | handled | receive a9 | stop",
        r#"
        dial 0 within 5000
        subscribe 1 from "" within 5000
        read within 5000, connecting at ""
        deliver welcome@a5 a6 a7 a8
        pause 200, catching up at "a6"
        deliver a7 a8
        pause 200, catching up at "a6"
        deliver a7 a8
        read within 15000, catching up at "a8"
        deliver a9
        stopped at "a8"
        "#,
    );
}

#[test]
fn a_stop_keeps_what_the_handler_had_finished() {
    let mut world = World::new(Config::default());
    world.play("begin");
    world.play("receive welcome@a5 a6 a7");
    world.link.batch_mut().finish_one();
    world.link.batch_mut().finish_one();
    world.play("stop");
    assert_eq!(short(&world.link.status().cursor), "a6");
    world.play("handled");
    assert_eq!(short(&world.link.status().cursor), "a6", "nothing moves after the end");
}

#[test]
fn a_handler_that_keeps_failing_is_seen_and_waited_for() {
    let mut world = World::new(Config::default());
    world.play("begin");
    world.play("receive welcome@a5 a6");
    for _ in 0..4 {
        world.play("fails");
        world.play("timer");
    }
    let trouble = world.link.status().handler.clone().unwrap();
    assert_eq!((&*trouble.error, trouble.failures, trouble.since), ("oops", 4, Duration::ZERO));
    assert_eq!(world.now, Duration::from_millis(200 + 200 + 400 + 800));
    world.play("fails 1");
    assert_eq!(world.link.status().handler.clone().unwrap().failures, 1, "another item fails now");
    world.play("timer");
    world.play("handled");
    assert_eq!(world.link.status().handler, None);
    assert_eq!(world.link.status().counters.handler_failures, 5);
}

#[test]
fn a_received_position_is_never_passed_on_twice() {
    check_from(
        "a5",
        "begin | receive welcome@a5 a5 a6 a6 a4 a7 caught@a7 | handled | lost | timer | begin | receive welcome@a7 a6 a7 a8",
        r#"
        dial 0 within 5000
        subscribe 1 from "a5" within 5000
        read within 5000, connecting at "a5"
        deliver welcome@a5 a6 a7 caughtup@a7
        read within 15000, live at "a7"
        wait 200, backing off at "a7"
        dial 1 within 5000
        subscribe 2 from "a7" within 5000
        read within 5000, connecting at "a7"
        deliver welcome@a7 a8
        "#,
    );
}

#[test]
fn a_control_frame_never_moves_the_cursor_back() {
    check_from(
        "a5",
        "begin | receive welcome@a5 a6 progress@a4 | handled | receive progress@a9 | handled | receive gap:1:a2@a3 | handled",
        r#"
        dial 0 within 5000
        subscribe 1 from "a5" within 5000
        read within 5000, connecting at "a5"
        deliver welcome@a5 a6 progress@a4
        read within 15000, catching up at "a6"
        deliver progress@a9
        read within 15000, catching up at "a9"
        deliver gap:Trimmed:a2..a3
        read within 15000, catching up at "a9"
        "#,
    );
}

#[test]
fn gaps_cross_holes_epochs_and_go_back_only_when_ahead() {
    check_from(
        "a5",
        "begin | receive welcome@a5 gap:1:a5@a9 a10 | handled | receive gap:2:a10@b3 b4 | handled | receive gap:3:b4@b1 b2 | handled",
        r#"
        dial 0 within 5000
        subscribe 1 from "a5" within 5000
        read within 5000, connecting at "a5"
        deliver welcome@a5 gap:Trimmed:a5..a9 a10
        read within 15000, catching up at "a10"
        deliver gap:EpochChanged:a10..b3 b4
        read within 15000, catching up at "b4"
        deliver gap:Ahead:b4..b1 b2
        read within 15000, catching up at "b2"
        "#,
    );
}

#[test]
fn another_epoch_without_a_gap_is_not_believed() {
    check_from(
        "a5",
        "begin | receive welcome@a5 a6 b7 | handled | timer",
        r#"
        dial 0 within 5000
        subscribe 1 from "a5" within 5000
        read within 5000, connecting at "a5"
        deliver welcome@a5 a6
        wait 200, backing off at "a6"
        dial 1 within 5000
        "#,
    );
}

#[test]
fn an_opaque_cursor_is_given_back_as_it_came() {
    check_from(
        "2.new",
        "begin | receive welcome@2.new caught@2.newer | handled | lost | timer | connected",
        r#"
        dial 0 within 5000
        subscribe 1 from "2.new" within 5000
        read within 5000, connecting at "2.new"
        deliver welcome@2.new caughtup@2.newer
        read within 15000, live at "2.newer"
        wait 200, backing off at "2.newer"
        dial 1 within 5000
        subscribe 2 from "2.newer" within 5000
        "#,
    );
}

#[test]
fn ephemeral_events_leave_the_cursor_alone_and_unknown_kinds_move_it() {
    check_from(
        "a5",
        "begin | receive welcome@a5 ephemeral | handled | receive new@a6 | receive a7 new@a8 | handled | receive ephemeral new",
        r#"
        dial 0 within 5000
        subscribe 1 from "a5" within 5000
        read within 5000, connecting at "a5"
        deliver welcome@a5 ephemeral
        read within 15000, catching up at "a5"
        read within 15000, catching up at "a6"
        deliver a7
        read within 15000, catching up at "a8"
        deliver ephemeral
        "#,
    );
}

#[test]
fn an_unreadable_cursor_is_told_and_the_stream_starts_from_the_oldest() {
    check_from(
        "rubbish",
        "begin | status 3 CURSOR_MALFORMED | fails | timer | handled | begin | receive welcome@a0 a1 | handled",
        r#"
        dial 0 within 5000
        subscribe 1 from "rubbish" within 5000
        read within 5000, connecting at "rubbish"
        deliver gap:CursorUnreadable:rubbish..
        pause 200, connecting at "rubbish"
        deliver gap:CursorUnreadable:rubbish..
        dial 0 within 5000
        subscribe 2 from "oldest" within 5000
        read within 5000, connecting at "oldest"
        deliver welcome@a0 a1
        read within 15000, catching up at "a1"
        "#,
    );
}

#[test]
fn a_hub_that_cannot_read_oldest_is_not_asked_in_a_loop() {
    check_from(
        "oldest",
        "connected | status 3 CURSOR_MALFORMED",
        r#"
        dial 0 within 5000
        subscribe 1 from "oldest" within 5000
        wait 60000, refused at "oldest"
        "#,
    );
}

#[test]
fn waits_by_what_a_server_said_and_by_nothing_a_transport_invents() {
    for (end, expected) in [
        ("lost", "wait 200, backing off"),
        ("status 14", "wait 200, backing off"),
        ("status 14 DRAINING 3", "wait 3200, backing off"),
        ("status 8 OVERLOADED", "wait 200, backing off"),
        ("status 2", "wait 200, backing off"),
        ("status 10 REPLACED", "wait 10000, conflicted"),
        ("status 10 STALE_ATTEMPT", "wait 10000, conflicted"),
        ("status 8 HELD_OFF 60", "wait 60200, conflicted"),
        ("status 3", "wait 60000, refused"),
        ("status 7 NOT_GRANTED", "wait 60000, refused"),
        ("status 12", "wait 60000, refused"),
        ("status 16", "wait 60000, refused"),
    ] {
        let mut world = World::new(Config::default());
        world.play("begin");
        world.play(end);
        assert_eq!(world.transcript.lines().last().unwrap(), format!("{expected} at \"\""), "{end}");
    }
}

#[test]
fn a_rival_is_met_at_every_hub_and_anything_else_is_tried_at_the_next() {
    let hub_after = |end: &str| {
        let mut world = World::new(Config { hubs: 3, ..Config::default() });
        world.play("begin");
        world.play(end);
        world.link.status().hub
    };
    assert_eq!(["status 10", "status 8 HELD_OFF", "status 16", "lost"].map(hub_after), [0, 0, 1, 1]);
}

#[test]
fn goodbyes() {
    for (goodbye, end, expected) in [
        ("goodbye:1@a5", "lost", "wait 200, backing off"),
        ("goodbye:1:7@a5", "status 14 DRAINING", "wait 7200, backing off"),
        ("goodbye:1:7@a5", "status 14 DRAINING 2", "wait 2200, backing off"),
        ("goodbye:1:7@a5", "timer", "wait 7200, backing off"),
        ("goodbye:2@a5", "status 14", "wait 10000, conflicted"),
        ("goodbye:2@a5", "status 10 REPLACED", "wait 10000, conflicted"),
        ("goodbye:4@a5", "lost", "wait 200, backing off"),
        ("goodbye:3@a5", "lost", "wait 60000, refused"),
        ("goodbye:3:0:reconnect@a5", "lost", "wait 200, backing off"),
        ("goodbye:77@a5", "lost", "wait 60000, refused"),
        ("goodbye:77@a5", "status 16", "wait 60000, refused"),
    ] {
        let mut world = World::new(Config { start: long("a5"), ..Config::default() });
        world.play_all(&["begin", "receive welcome@a5", "handled"]);
        world.play(&format!("receive {goodbye}"));
        assert_eq!(world.transcript.lines().last().unwrap(), "read within 1000, catching up at \"a5\"");
        world.play(end);
        assert_eq!(
            world.transcript.lines().last().unwrap(),
            format!("{expected} at \"a5\""),
            "{goodbye} {end}"
        );
    }
}

#[test]
fn deadlines() {
    check(
        "timer | timer | connected | timer | timer | begin | timer | timer | timer | begin | receive welcome@a1 | handled | timer | receive a2 | handled | timer | timer",
        r#"
        dial 0 within 5000
        wait 200, backing off at ""
        dial 1 within 5000
        subscribe 1 from "" within 5000
        wait 200, backing off at ""
        dial 0 within 5000
        subscribe 2 from "" within 5000
        read within 5000, connecting at ""
        read within 100, connecting at ""
        wait 400, backing off at ""
        dial 1 within 5000
        subscribe 3 from "" within 5000
        read within 5000, connecting at ""
        deliver welcome@a1
        read within 15000, catching up at "a1"
        read within 100, catching up at "a1"
        deliver a2
        read within 15000, catching up at "a2"
        read within 100, catching up at "a2"
        wait 800, backing off at "a2"
        "#,
    );
}

#[test]
fn the_welcome_deadline_counts_from_the_connection() {
    check(
        "connected | later 3 | subscribed | later 1 | receive new | later 9 | receive welcome@a1 | later 60 | handled",
        r#"
        dial 0 within 5000
        subscribe 1 from "" within 5000
        read within 2000, connecting at ""
        read within 1000, connecting at ""
        deliver welcome@a1
        read within 15000, catching up at "a1"
        "#,
    );
}

#[test]
fn only_proven_health_resets_the_backoff() {
    let waits = |life: &[&str]| {
        let mut world = World::new(Config::default());
        for _ in 0..6 {
            world.play_all(&["begin", "receive welcome@a1 caught@a1", "handled"]);
            life.iter().for_each(|line| world.play(line));
            world.play_all(&["lost", "timer"]);
        }
        let waits = world.transcript.lines().filter_map(|line| line.strip_prefix("wait "));
        waits.map(|rest| rest.split(',').next().unwrap().parse().unwrap()).collect::<Vec<u32>>()
    };
    let grows = [200, 200, 400, 800, 1600, 3200];
    assert_eq!(waits(&[]), grows, "a welcome proves nothing");
    assert_eq!(waits(&["later 9", "receive progress@a1", "handled"]), grows, "nor does a short life");
    assert_eq!(waits(&["later 99"]), grows, "nor does silence");
    assert_eq!(waits(&["later 99", "receive caught@a1", "handled"]), grows);
    assert_eq!(waits(&["later 10", "receive progress@a1", "handled"]), [200; 6]);
    assert_eq!(waits(&["receive fell@a1", "handled", "later 10", "receive ephemeral", "handled"]), [200; 6]);
}

#[test]
fn a_peer_that_breaks_the_contract_is_left_and_what_came_before_is_kept() {
    for broken in ["broken", "huge", "welcome@a6"] {
        let mut world = World::new(Config { start: long("a5"), ..Config::default() });
        world.play("begin");
        world.play(&format!("receive welcome@a5 a6 {broken} a7"));
        assert_eq!(world.transcript.lines().last().unwrap(), "deliver welcome@a5 a6");
        world.play("handled");
        assert_eq!(world.transcript.lines().last().unwrap(), "wait 200, backing off at \"a6\"");
    }
    let mut world = World::new(Config::default());
    world.play("begin");
    world.play("receive a6");
    assert_eq!(world.transcript.lines().last().unwrap(), "wait 200, backing off at \"\"");
}

#[test]
fn a_frame_in_pieces_is_a_sign_of_life() {
    let mut world = World::new(Config::default());
    world.play_all(&["begin", "receive welcome@a5", "handled", "later 14"]);
    let bytes = Bytes::from(frame("a6"));
    world.step(Input::Received(bytes.slice(..7)));
    assert_eq!(world.transcript.lines().last().unwrap(), "read within 15000, catching up at \"a5\"");
    world.step(Input::Received(bytes.slice(7..)));
    assert_eq!(world.transcript.lines().last().unwrap(), "deliver a6");
}

/// A hub, and a network between, that do anything at any moment.
fn any_line() -> impl Strategy<Value = String> {
    let word = prop_oneof![
        8 => (0u8..2, 0u64..12).prop_map(|(epoch, seq)| format!("{}{seq}", char::from(b'a' + epoch))),
        1 => Just("ephemeral".to_owned()),
        1 => Just("broken".to_owned()),
        6 => (prop::sample::select(vec!["welcome", "progress", "caught", "fell", "new", "record", "standing"]), 0u64..12)
            .prop_map(|(kind, seq)| format!("{kind}@a{seq}")),
        2 => (1u8..10, 0u8..2, 0u64..12).prop_map(|(reason, epoch, to)| format!("gap:{reason}:a1@{}{to}", char::from(b'a' + epoch))),
        1 => (0u8..6, 0u8..9).prop_map(|(reason, after)| format!("goodbye:{reason}:{after}@a3")),
    ];
    prop_oneof![
        3 => Just("begin".to_owned()),
        1 => Just("receive welcome@a3".to_owned()),
        6 => prop::collection::vec(word, 1..6).prop_map(|words| format!("receive {}", words.join(" "))),
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
    fn whatever_happens_the_promises_hold(lines in prop::collection::vec(any_line(), 1..80), start in "(|oldest|a3|x)") {
        let mut world = World::new(Config { start: long(&start), hubs: 2, ..Config::default() });
        let (mut attempt, mut handed) = (0, Vec::<Cursor>::new());
        for line in lines {
            let before = world.link.status().clone();
            let was = world.action.clone();
            let offered: Vec<_> = world.link.batch_mut().items().iter().map(|item| item.cursor().to_owned()).collect();
            world.play(&line);
            let status = world.link.status();

            // The cursor moves only to what the handler was given, or past frames that no handler is given.
            if status.cursor != before.cursor && was == Action::Deliver && world.action != Action::Finish {
                let tail = Cursor::parse(&status.cursor).is_ok();
                prop_assert!(offered.contains(&status.cursor) || tail);
                prop_assert!(line == "handled" || line.starts_with("fails"));
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
                        Item::Gap(gap) if gap.reason == Some(GapReason::Ahead) => handed.retain(|c| !c.follows(cursor)),
                        Item::Gap(_) if handed.last().is_some_and(|last| last.epoch != cursor.epoch) => handed.clear(),
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
