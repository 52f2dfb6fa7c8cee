//! Histories as short texts: one record a line, in words. Positions are `5` (of epoch `e1`) or `e2:5`.

use galaxy_push_testkit::history::{
    Claim, Close, Cursor, Damaged, Event, Fault, Follows, Form, Gap, GapReason, Goodbye, GoodbyeReason,
    Grant, Handled, Handler, Hash, Hop, How, Kept, LogKnown, LogLine, LogRecord, Mark, Measured, Missed,
    Name, Open, Outcome, Pause, Position, PubAck, PubCall, Rules, Says, Standing, Stored, Subscribed,
    TimingRule, Token, Uncounted, Ungrant, Welcome, What, WindowRule,
};
use galaxy_push_testkit::{Promise, Record, Report, check};
use serde::de::DeserializeOwned;

/// Judges a script that must be clean.
#[track_caller]
pub(crate) fn keeps(script: &str) -> Report {
    let report = check(&records(script));
    assert!(report.is_clean(), "expected no violation:\n{report}");
    report
}

/// Judges a good script, then the same with one line replaced: that must break this very promise.
#[track_caller]
pub(crate) fn breaks(promise: Promise, good: &str, line: &str, by: &str) {
    keeps(good);
    assert!(good.contains(line), "the script has no line {line:?}");
    let report = check(&records(&good.replacen(line, by, 1)));
    assert!(report.breaks(promise), "{line:?} -> {by:?}: expected {promise} to be broken:\n{report}");
}

/// The records of a script, a millisecond apart.
pub(crate) fn records(script: &str) -> Vec<Record> {
    let (mut at_us, mut process) = (0, Name::from("world"));
    let mut records = Vec::new();
    for line in script.lines().flat_map(|line| line.split('|')) {
        let words: Vec<&str> = line.split_whitespace().collect();
        match words[..] {
            [] => continue,
            ["wait", ms] => at_us += ms.parse::<u64>().unwrap() * 1_000,
            ["by", name] => process = name.into(),
            _ => {
                for what in parse(&words) {
                    records.push(Record { at_us, process: process.clone(), what });
                }
            }
        }
        at_us += 1_000;
    }
    records
}

#[expect(clippy::too_many_lines, reason = "one arm for each word")]
fn parse(words: &[&str]) -> Vec<What> {
    // Words with `=` are options, in any place.
    let option = |name: &str| option(words, name);
    let flag = |name: &str| words.contains(&name);
    let plain: Vec<&str> = words.iter().copied().filter(|word| !word.contains('=')).collect();
    let number = || plain[1].parse().unwrap();
    let one = match plain[0] {
        "rules" => {
            let rule = |name, default| option(name).map_or(default, |text| text.parse().unwrap());
            What::Rules(Rules {
                fence_grace_us: rule("grace", 0) * 1_000,
                clock_skew_us: rule("skew", 0) * 1_000,
                drain_us: rule("drain", 0) * 1_000,
                repair_spread_us: rule("spread", 0) * 1_000,
                transit_us: rule("transit", 0) * 1_000,
                durable: flag("durable"),
                edges: flag("edges"),
                keeps_little: flag("keeps_little"),
                dedup_events: rule("dedup", 100),
                window: option("events").map(|events| WindowRule {
                    age_us: rule("age", 1_000_000) * 1_000,
                    events: events.parse().unwrap(),
                    bytes: rule("bytes", 1_000_000),
                    event_bytes_max: 100,
                }),
                timing: flag("timing").then(|| timing(words)),
                ..Rules::default()
            })
        }
        "log" => {
            let mut whats = published(&plain, option("key"), option("expires"));
            let appended_us = option("appended").map(|ms| ms.parse::<u64>().unwrap() * 1_000);
            let lines = whats.iter_mut().filter_map(|what| match what {
                What::Log(line) => Some(line),
                _ => None,
            });
            lines.for_each(|line| line.appended_us = appended_us);
            return whats;
        }
        "dump" => log_line(&plain, option("key"), option("expires"), flag("standing")),
        "record" => return record(&plain, option("until"), option("before")),
        "uncounted" => {
            let record = says(&plain, option("until"), option("before"));
            What::Uncounted(Uncounted { hash: payload(plain[2]).1, record })
        }
        "measured" => What::Measured(Measured {
            what: plain[1].into(),
            is: plain[2].parse().unwrap(),
            most: plain[3].parse().unwrap(),
        }),
        "known" => {
            let through = plain.get(3).map(|text| text.parse().unwrap());
            What::LogKnown(LogKnown { epoch: plain[1].into(), after: plain[2].parse().unwrap(), through })
        }
        "kept" => {
            let stretch = |text: &&str| {
                let (after, through) = text.split_once("..").unwrap();
                (after.parse().unwrap(), through.parse().unwrap())
            };
            What::Kept(Kept { epoch: "e1".into(), stretches: plain[1..].iter().map(stretch).collect() })
        }
        "damaged" => {
            let (after, through) = (plain[1].parse().unwrap(), plain[2].parse().unwrap());
            What::Damaged(Damaged { epoch: "e1".into(), after, through })
        }
        "head" => What::Head(position(plain[1])),
        "call" => call(&plain, option("batch"), flag("ephemeral")),
        "ack" => {
            let position = (plain[2] != "-").then(|| position(plain[2]));
            What::PubAck(PubAck { call: number(), position, duplicate: flag("duplicate") })
        }
        "nack" => What::PubNack(number()),
        "unknown" => What::PubUnknown(number()),
        "left" => What::Left(plain[1].into()),
        "handled" => What::Handled(Handled {
            reader: plain[1].into(),
            position: position(plain[2]),
            how: if flag("dead") { How::DeadLetter } else { How::Success },
            call: option("call").map(|text| text.parse().unwrap()),
        }),
        "handler" => What::Handler(Handler {
            reader: plain[1].into(),
            form: word::<Form>(plain[2]),
            repeats: option("repeats").map_or(1, |text| text.parse().unwrap()),
        }),
        "stored" => What::Stored(Stored { reader: plain[1].into(), cursor: cursor(plain[2]) }),
        "store_failed" => What::StoreFailed(plain[1].into()),
        "unknown_frame" => What::UnknownFrame(plain[1].into()),
        "follows" => {
            let left = option("left").map(position);
            What::Follows(Follows { left, position: position(plain[1]) })
        }
        "missed" => {
            let place = |text: &&str| (*text != "-").then(|| position(text));
            let (after, through) = (place(&plain[1]), plain.get(2).and_then(place));
            What::Missed(Missed { after, through })
        }
        "upstream" => What::Upstream { live: plain[1] == "live" },
        "start" => What::Start,
        "crash" => What::Crash,
        "fault" => {
            let detail = plain.get(2).copied().unwrap_or_default().to_owned();
            What::FaultStart(Fault { kind: plain[1].into(), detail })
        }
        "over" => {
            let detail = plain.get(2).copied().unwrap_or_default().to_owned();
            What::FaultStop(Fault { kind: plain[1].into(), detail })
        }
        "healed" => What::Healed,
        "end" => What::End,
        _ => of_stream(words, &plain),
    };
    vec![one]
}

/// `rules timing` and what is to be judged, in milliseconds.
fn timing(words: &[&str]) -> TimingRule {
    let rule = |name: &str| option(words, name).map_or(0, |text| text.parse::<u64>().unwrap());
    TimingRule {
        deliver_us: rule("deliver") * 1_000,
        handle_us: rule("handle") * 1_000,
        progress_us: rule("progress") * 1_000,
        edge_progress_us: rule("edge") * 1_000,
        session_end_us: rule("session") * 1_000,
        returns_per_second: rule("returns"),
    }
}

#[expect(clippy::too_many_lines, reason = "one arm for each word")]
fn of_stream(words: &[&str], plain: &[&str]) -> What {
    let option = |name: &str| option(words, name);
    let flag = |name: &str| words.contains(&name);
    let stream = || plain[1].parse().unwrap();
    let mark = || Mark { stream: stream(), cursor: cursor(plain[2]) };
    match plain[0] {
        "open" => open(words, plain),
        "welcome" => welcome(plain, option("gen")),
        "claim" => {
            let (instance, attempt) = (plain[2].into(), plain[3].parse().unwrap());
            What::Claim(Claim { stream: stream(), instance, attempt })
        }
        "token" => {
            let us = |text: &str| text.parse::<u64>().unwrap() * 1_000;
            What::Token(Token {
                stream: stream(),
                issued_us: us(plain[2]),
                until_us: option("until").map(us),
            })
        }
        "standing" => {
            let ids = plain.get(3).map_or_else(Vec::new, |ids| names(ids));
            let records = ids.iter().map(|id| payload(id).1).collect();
            What::Standing(Standing {
                stream: stream(),
                cursor: cursor(plain[2]),
                records,
                more: flag("more"),
            })
        }
        "event" => {
            let shown_to = option("to").map(names).unwrap_or_default();
            What::Event(Event {
                shown_to,
                ..event(stream(), Some(position(plain[2])), plain[3], flag("ephemeral"))
            })
        }
        "event_without_cursor" => What::Event(event(stream(), None, plain[2], flag("ephemeral"))),
        "ephemeral" => What::Event(event(stream(), None, plain[2], true)),
        "gap" => What::Gap(Gap {
            stream: stream(),
            reason: word::<GapReason>(plain[2]),
            from: cursor(plain[3]),
            to: cursor(plain[4]),
            count: option("count").map(|text| text.parse().unwrap()),
            repair_after_us: option("repair").map(|text| text.parse::<u64>().unwrap() * 1_000),
            cursor: cursor(option("cursor").unwrap_or(plain[4])),
        }),
        "progress" => What::Progress(mark()),
        "caught_up" => What::CaughtUp(mark()),
        "fell_behind" => What::FellBehind(mark()),
        "goodbye" => {
            let reason = word::<GoodbyeReason>(plain[2]);
            let retry_after_us = option("retry").map(|text| text.parse::<u64>().unwrap() * 1_000);
            What::Goodbye(Goodbye { stream: stream(), reason, retry_after_us, cursor: cursor(plain[3]) })
        }
        "subscribed" => {
            let recipients = names(plain[3]);
            What::Subscribed(Subscribed { stream: stream(), cursor: cursor(plain[2]), recipients })
        }
        "pause" => What::Pause(Pause {
            stream: stream(),
            until_us: plain[2].parse::<u64>().unwrap() * 1_000,
            ahead_bytes: option("ahead").map(|bytes| bytes.parse().unwrap()),
        }),
        "close" => What::Close(Close { stream: stream(), code: plain[2].into() }),
        "grant" => {
            What::Grant(Grant { stream: stream(), recipient: plain[2].into(), after: position(plain[3]) })
        }
        "ungrant" => {
            let after = plain.get(3).map(|text| position(text));
            What::Ungrant(Ungrant { stream: stream(), recipient: plain[2].into(), after })
        }
        other => panic!("no such record: {other}"),
    }
}

/// `open STREAM HOP READER RECIPIENTS PRESENTED`, and what else is known as flags and options.
fn open(words: &[&str], plain: &[&str]) -> What {
    let flag = |name: &str| words.contains(&name);
    What::Open(Open {
        stream: plain[1].parse().unwrap(),
        hop: if plain[2] == "user" { Hop::User } else { Hop::Gateway },
        reader: plain[3].into(),
        recipients: names(plain[4]),
        presented: cursor(plain[5]),
        standing: flag("standing"),
        collapses: flag("collapses"),
        at: option(words, "at").map(Name::from),
        continues: flag("continues"),
        steady: flag("steady"),
    })
}

/// The value of the word `name=value`.
fn option<'a>(words: &[&'a str], name: &str) -> Option<&'a str> {
    words.iter().find_map(|word| word.strip_prefix(name)?.strip_prefix('='))
}

/// `log POSITION ID TO`: published, acknowledged and in the log. The call's number is taken from the position.
fn published(plain: &[&str], key: Option<&str>, expires: Option<&str>) -> Vec<What> {
    let position = position(plain[1]);
    let number = 1_000 * (1 + u64::from(&*position.epoch != "e1")) + position.seq;
    let call = call(&["call", &number.to_string(), plain[2], plain[3]], None, false);
    let ack = What::PubAck(PubAck { call: number, position: Some(position), duplicate: false });
    vec![call, ack, log_line(plain, key, expires, false)]
}

/// `record POSITION ID HOLDER void`, or `… joins RECIPIENT`, or `… leaves RECIPIENT`: a standing record of the log.
fn record(plain: &[&str], until: Option<&str>, before: Option<&str>) -> Vec<What> {
    vec![log_line(plain, None, None, true), What::LogRecord(says(plain, until, before))]
}

fn says(plain: &[&str], until: Option<&str>, before: Option<&str>) -> LogRecord {
    let us = |ms: &str| ms.parse::<u64>().unwrap() * 1_000;
    let holder = Name::from(plain[3]);
    let says = match plain[4] {
        "void" => Says::Void { holder, before_us: before.map(us) },
        does => Says::Member { holder, recipient: plain[5].into(), member: does == "joins" },
    };
    LogRecord { position: position(plain[1]), says, until_us: until.map(us), appended_us: None }
}

fn log_line(plain: &[&str], key: Option<&str>, expires: Option<&str>, standing: bool) -> What {
    let (id, hash) = payload(plain[2]);
    What::Log(LogLine {
        position: position(plain[1]),
        source: if standing { "" } else { "test" }.into(),
        id,
        to: if standing { Vec::new() } else { names(plain[3]) },
        hash,
        standing,
        collapse_key: key.map(Name::from),
        expires_at_us: expires.map(|ms| ms.parse::<u64>().unwrap() * 1_000),
        appended_us: None,
        bytes: 100,
    })
}

fn call(plain: &[&str], batch: Option<&str>, ephemeral: bool) -> What {
    let (id, hash) = payload(plain[2]);
    What::PubCall(PubCall {
        call: plain[1].parse().unwrap(),
        source: if plain.get(4) == Some(&"standing") { "" } else { "test" }.into(),
        id,
        to: names(plain[3]),
        hash,
        batch: batch.map(|text| text.parse().unwrap()),
        ephemeral,
    })
}

/// `welcome STREAM OUTCOME CURSOR OLDEST HEAD`.
fn welcome(plain: &[&str], generation: Option<&str>) -> What {
    let head = position(plain[5]);
    What::Welcome(Welcome {
        stream: plain[1].parse().unwrap(),
        outcome: word::<Outcome>(plain[2]),
        cursor: cursor(plain[3]),
        oldest: position(plain[4]),
        epoch: head.epoch.clone(),
        head,
        generation: generation.map_or(0, |text| text.parse().unwrap()),
    })
}

fn event(stream: u64, position: Option<Position>, id: &str, ephemeral: bool) -> Event {
    let (id, hash) = payload(id);
    Event { stream, position, id, hash, ephemeral, shown_to: Vec::new() }
}

/// `a` has a payload of its own; `a/x` is `a` with another one.
fn payload(text: &str) -> (Name, Hash) {
    let id = text.split('/').next().unwrap_or(text);
    (id.into(), Hash::of(&[text.as_bytes()]))
}

fn names(text: &str) -> Vec<Name> {
    if text == "-" { Vec::new() } else { text.split(',').map(Name::from).collect() }
}

fn position(text: &str) -> Position {
    let (epoch, seq) = text.split_once(':').unwrap_or(("e1", text));
    Position::new(epoch, seq.parse().unwrap())
}

fn cursor(text: &str) -> Cursor {
    match text {
        "empty" => Cursor::Empty,
        "oldest" => Cursor::Oldest,
        "foreign" => Cursor::Foreign,
        "garbage" => Cursor::Garbage,
        "unreadable" => Cursor::Unreadable,
        _ => Cursor::At(position(text)),
    }
}

/// An enum value by its name on the wire.
fn word<T: DeserializeOwned>(text: &str) -> T {
    serde_json::from_value(text.into()).unwrap()
}
