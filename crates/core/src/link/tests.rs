//! A script of what happens in, a transcript of what the link does out; then random scripts against its promises.
//!
//! In scripts and transcripts `a6` is position 6 of epoch a, and an event there. Every delay takes its upper bound.

mod doors;
mod ends;
mod flight;
mod outcomes;
mod random;
mod retry;
mod returns;
mod stale;
mod standing;
mod storing;
mod streams;

use std::fmt::Write as _;
use std::sync::Arc;

use bytes::Bytes;

use super::*;
use crate::cursor::{Epoch, Seq};
use crate::frame::{Kind, LogKind, PREFIX_BYTES, put_log_frame, put_prefix};
use crate::window::GapReason;
use crate::wire::{put_bytes, put_varint};

#[track_caller]
fn check(script: &str, expected: &str) {
    check_from("", script, expected);
}

#[track_caller]
fn check_from(start: &str, script: &str, expected: &str) {
    check_with(starting(start), script, expected);
}

/// With two hubs.
fn starting(start: &str) -> Config {
    Config { start: long(start), hubs: 2, ..Config::default() }
}

#[track_caller]
fn check_with(config: Config, script: &str, expected: &str) {
    check_named("", config, script, expected);
}

/// What it shows, the settings, a script, and what comes of it.
type Scene = (&'static str, fn() -> Config, &'static str, &'static str);

#[track_caller]
fn check_all(scenes: &[Scene]) {
    for (shows, config, script, expected) in scenes {
        check_named(shows, config(), script, expected);
    }
}

#[track_caller]
fn check_named(shows: &str, config: Config, script: &str, expected: &str) {
    let start = short(&config.start);
    let mut world = World::new(config);
    for line in script.split('|').map(str::trim) {
        world.play(line);
    }
    // How a stream begins need not be written down for each script that begins with it.
    let begun = [
        "dial 0 within 5000".to_owned(),
        format!("subscribe 1 from \"{start}\" within 5000"),
        format!("read within 5000, connecting at \"{start}\""),
    ];
    let begun = begun.iter().map(String::as_str).filter(|_| script.starts_with("begin"));
    let expected = expected.lines().map(str::trim).filter(|line| !line.is_empty());
    let expected: Vec<_> = begun.chain(expected).collect();
    assert_eq!(world.transcript.lines().collect::<Vec<_>>(), expected, "{shows}");
}

struct World {
    link: Link,
    action: Action,
    now: Duration,
    transcript: String,
    /// Whether a script says what the hubs answer; else none of them knows the question.
    asked: bool,
}

impl World {
    fn new(config: Config) -> Self {
        let mut world = Self::asked(config);
        world.asked = false;
        world.answer();
        world.write();
        world
    }

    fn asked(config: Config) -> Self {
        let mut link = Link::try_new(config).unwrap();
        let action = link.start(Duration::ZERO);
        Self { link, action, now: Duration::ZERO, transcript: String::new(), asked: true }
    }

    fn answer(&mut self) {
        if matches!(self.action, Action::AskHubs { .. }) && !self.asked {
            let mute = vec![Some(Door::Mute); self.link.config.hubs];
            self.action = self.link.step(Input::Doors(mute), self.now, u64::MAX);
        }
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
            "loaded" => Input::Loaded((!rest.is_empty()).then(|| long(rest.trim_matches('"')))),
            "unloadable" => Input::LoadFailed("no disk".into()),
            "saved" => Input::Saved,
            "unsaved" => Input::SaveFailed("disk full".into()),
            "taken" => Input::DeadLettered,
            "untaken" => Input::DeadLetterFailed("no room".into()),
            "ack" => acks(rest, &Ok(())),
            "nack" => acks(rest, &Err("oops".into())),
            "doors" => Input::Doors(rest.split(' ').map(door).collect()),
            "unreachable" => Input::Failed(Failure::Unreachable("refused".into())),
            "vain" => {
                self.now = self.now.max(self.until());
                Input::ReadTimedOut { arriving: rest.parse().unwrap() }
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
        self.answer();
        self.write();
    }

    fn until(&self) -> Duration {
        match self.action {
            Action::AskHubs { until, .. }
            | Action::Dial { until, .. }
            | Action::Subscribe { until, .. }
            | Action::Read { until }
            | Action::Pause { until }
            | Action::Load { until }
            | Action::Save { until, .. }
            | Action::Await { until }
            | Action::Wait { until } => until,
            Action::Deliver | Action::DeadLetter | Action::Finish => self.now,
        }
    }

    fn write(&mut self) {
        let left = self.until().saturating_sub(self.now).as_millis();
        let status = self.link.status().clone();
        let dead_letter =
            self.link.dead_letter().map(|dead| (name(dead.item), dead.failures, dead.error.clone()));
        let handed = self.link.drain_deliveries();
        let out = &mut self.transcript;
        if !handed.is_empty() {
            let handed = handed.iter().map(|handed| format!("{}#{}", name(&handed.item), handed.id));
            writeln!(out, "out {}", handed.collect::<Vec<_>>().join(" ")).unwrap();
        }
        match &self.action {
            Action::AskHubs { hub, epoch, .. } => {
                let epoch = epoch.as_deref().map(|epoch| epoch.parse::<Epoch>().unwrap());
                let log = epoch.map_or("any".to_owned(), |epoch| char::from(epoch.0 as u8).to_string());
                write!(out, "ask, {hub} first, for {log} within {left}")
            }
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
            Action::Load { .. } => write!(out, "load within {left}, {}", status.state),
            Action::Save { cursor, .. } => write!(out, "save {} within {left}", short(cursor)),
            Action::DeadLetter => {
                let (item, failures, error) = dead_letter.unwrap();
                write!(out, "give up {item} after {failures}: {error}")
            }
            Action::Await { .. } => {
                write!(out, "await {} items at {:?}", status.in_flight_items, short(&status.cursor))
            }
            Action::Finish => write!(out, "{} at {:?}", status.state, short(&status.cursor)),
        }
        .unwrap();
        out.push('\n');
    }
}

/// `a`: a hub that holds log a; `?`: one that does not say; `-`: one that does not answer; `!`: one that refuses to be asked;
/// `.`: nothing yet; `a~`: one that holds log a and cannot reach its store.
fn door(word: &str) -> Option<Door> {
    match word {
        "." => None,
        "?" => Some(Door::Mute),
        "!" => Some(Door::Silent(Arc::new(Failure::Status(ServerStatus::new(16, ""))))),
        "-" => Some(Door::Silent(Arc::new(Failure::Unreachable("refused".into())))),
        letter => {
            let epoch = Epoch(u128::from(letter.as_bytes()[0])).to_string().into();
            Some(if letter.ends_with('~') { Door::Stale(epoch) } else { Door::Holds(epoch) })
        }
    }
}

fn acks(ids: &str, result: &Result<(), Arc<str>>) -> Input {
    let ack_result = |id: &str| AckResult { id: id.parse().unwrap(), result: result.clone() };
    Input::Acks(ids.split(' ').map(ack_result).collect())
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

/// The framed bytes of one word: `a6`, `ephemeral`, `welcome@a6`, `gap:1:a2@a6`, `goodbye:1:9@a6`, `badgap@a9`, `broken`, …
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
        "badgap" => {
            put_bytes(&mut body, 2, &[0xff]); // no text
            12
        }
        "caught" => 13,
        "fell" => 14,
        "goodbye" => 15,
        "standing" => 16,
        "standing+" => {
            body.extend_from_slice(&[3 << 3, 1]);
            16
        }
        "new" => 99,
        event => {
            let mut out = Vec::new();
            put_log_frame(&mut out, LogKind::Event, Cursor::parse(&long(event)).ok(), b"", 1);
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
