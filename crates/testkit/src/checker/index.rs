//! One pass over a history: streams, publishes, logs and the run itself, each in the form the promises ask for.

pub(super) mod edges;
pub(super) mod following;
pub(super) mod held;

use std::collections::{HashMap, HashSet};

use super::calm::Calm;
pub(super) use super::log::Pos;
use super::log::{Entry, EpochLog};
use super::publishes::{Answer, Publishes};
use crate::history::{Cursor, Name, Open, Position, Record, Rules, StreamId, What, WindowRule};
use edges::Edges;
use following::Following;

/// The records of one stream.
pub(super) struct Stream<'h> {
    pub(super) open: &'h Open,
    pub(super) process: &'h Name,
    pub(super) open_line: usize,
    /// Its records after `open`.
    pub(super) lines: Vec<usize>,
    /// Whether it was closed, or ended with the process of its reader.
    pub(super) ended: bool,
    /// The highest position of the presented cursor's epoch that anyone had seen when the stream was opened.
    pub(super) issued: Option<u64>,
    /// The stream of the same reader and process before it.
    pub(super) before: Option<usize>,
}

/// What could be read of a log when a hub began to.
pub(super) struct Kept<'h> {
    /// The record.
    pub(super) line: usize,
    pub(super) epoch: u32,
    /// Behind which places, and up to which.
    pub(super) stretches: &'h [(u64, u64)],
}

/// What the history says of the run as a whole.
#[derive(Default)]
pub(super) struct Run<'h> {
    pub(super) healed_us: Option<u64>,
    pub(super) end: Option<(u64, usize)>,
    pub(super) last_publish_us: u64,
    pub(super) head: Option<Pos>,
    /// Processes that crashed and were not started again.
    pub(super) down: HashSet<&'h str>,
    /// Readers that stay away, with the record that says so.
    pub(super) left: HashMap<&'h str, usize>,
}

/// A history, ready to be judged.
pub(super) struct Index<'h> {
    pub(super) records: &'h [Record],
    pub(super) rules: Rules,
    /// By the numbers of epochs.
    pub(super) logs: Vec<EpochLog<'h>>,
    pub(super) streams: Vec<Stream<'h>>,
    pub(super) publishes: Publishes<'h>,
    /// When an ephemeral event was published, in order.
    pub(super) ephemerals_us: Vec<u64>,
    pub(super) run: Run<'h>,
    /// What befell whom.
    pub(super) calm: Calm<'h>,
    /// By gateway: each of its lives.
    followed: HashMap<&'h str, Vec<Following>>,
    /// What happened at gateways, if the history tells.
    pub(super) edges: Option<Edges>,
    /// Which process was started where.
    starts: Vec<(usize, &'h str)>,
    /// What could be read of the log whenever a hub began to.
    pub(super) kept: Vec<Kept<'h>>,
    /// What the harness damaged: the epoch, and behind and up to which place.
    pub(super) damaged: Vec<(u32, u64, u64)>,
    /// Records that make no sense where they stand.
    pub(super) unsound: Vec<(usize, &'static str)>,
    epochs: Numbers<'h>,
    recipients: Numbers<'h>,
    by_stream: HashMap<StreamId, usize>,
}

/// Gives each text a small number.
#[derive(Default)]
struct Numbers<'h> {
    names: Vec<&'h str>,
    numbers: HashMap<&'h str, u32>,
}

/// What only the pass itself needs.
#[derive(Default)]
struct Pass<'h> {
    running: HashMap<&'h str, Vec<usize>>,
    issued: HashMap<u32, u64>,
    newest: HashMap<(&'h str, &'h str), usize>,
}

impl<'h> Index<'h> {
    /// The window that a stream is read from, where it is known: its gateway's, or its hub's.
    pub(super) fn window_of(&self, open: &Open) -> Option<&WindowRule> {
        let of_gateway = open.at.as_deref().and_then(|gateway| self.rules.edge_windows.get(gateway));
        of_gateway.or(self.rules.window.as_ref())
    }

    pub(super) fn new(records: &'h [Record], rules: &Rules) -> Self {
        let mut index = Self {
            records,
            rules: rules.clone(),
            logs: Vec::new(),
            streams: Vec::new(),
            publishes: Publishes::default(),
            ephemerals_us: Vec::new(),
            run: Run::default(),
            calm: Calm::new(records),
            followed: HashMap::new(),
            edges: None,
            starts: Vec::new(),
            kept: Vec::new(),
            damaged: Vec::new(),
            unsound: Vec::new(),
            epochs: Numbers::default(),
            recipients: Numbers::default(),
            by_stream: HashMap::new(),
        };
        let mut pass = Pass::default();
        for (line, record) in records.iter().enumerate() {
            index.take(line, record, &mut pass);
        }
        index.seal();
        index.edges = rules.edges.then(|| Edges::new(&index));
        index
    }

    /// The number of a position's epoch, with its place.
    pub(super) fn pos(&self, position: &Position) -> Pos {
        // Every position of the history was numbered in the pass.
        Pos { epoch: self.epochs.get(&position.epoch).unwrap_or(u32::MAX), seq: position.seq }
    }

    /// The position a cursor names, if it names one.
    pub(super) fn at(&self, cursor: &Cursor) -> Option<Pos> {
        match cursor {
            Cursor::At(position) => Some(self.pos(position)),
            Cursor::Empty | Cursor::Oldest | Cursor::Foreign | Cursor::Garbage | Cursor::Unreadable => None,
        }
    }

    /// A position in words.
    pub(super) fn show(&self, pos: Pos) -> String {
        format!("{}:{}", self.epochs.names.get(pos.epoch as usize).copied().unwrap_or("?"), pos.seq)
    }

    pub(super) fn log(&self, epoch: u32) -> Option<&EpochLog<'h>> {
        self.logs.get(epoch as usize)
    }

    /// Whether positions of this epoch have holes: its text says so.
    pub(super) fn has_holes(&self, epoch: u32) -> bool {
        self.epochs.names.get(epoch as usize).is_some_and(|name| name.starts_with("pack"))
    }

    pub(super) fn entry(&self, pos: Pos) -> Option<&Entry<'h>> {
        self.log(pos.epoch)?.get(pos.seq)
    }

    /// The stream a record belongs to.
    pub(super) fn stream(&self, id: StreamId) -> Option<&Stream<'h>> {
        self.by_stream.get(&id).map(|&number| &self.streams[number])
    }

    /// Whether the harness damaged this position, sooner or later.
    pub(super) fn is_damaged(&self, pos: Pos) -> bool {
        let mut damaged = self.damaged.iter();
        damaged
            .any(|(epoch, after, through)| *epoch == pos.epoch && (after + 1..=*through).contains(&pos.seq))
    }

    /// In which life of the hub that keeps a log it named this head, in answer to what was asked for in the first of these
    /// lines and received in the second; `None` if nobody can tell. A log that ends with its hub has one.
    pub(super) fn life_of_hub(&self, head: Pos, (asked, received): (usize, usize)) -> Option<usize> {
        let keeper = self.log(head.epoch).and_then(|log| log.began).filter(|_| self.rules.durable);
        let Some((_, keeper)) = keeper else { return Some(0) };
        let starts: Vec<usize> =
            self.starts.iter().filter(|(_, process)| *process == keeper).map(|(start, _)| *start).collect();
        let before = |line| starts.partition_point(|start| *start < line);
        if before(asked) == before(received) {
            return Some(before(received));
        }
        // How far the log had come when the life of this number began: the first may be the process's before any start.
        let began_at = |life: usize| {
            let start = life.checked_sub(1).and_then(|number| starts.get(number));
            start.map_or(0, |&start| self.head_at(head.epoch, self.records[start].at_us))
        };
        let is_possible = |life: &usize| {
            began_at(*life) <= head.seq && (*life == before(received) || head.seq <= began_at(*life + 1))
        };
        let mut possible = (before(asked)..=before(received)).filter(is_possible);
        possible.next().filter(|_| possible.next().is_none())
    }

    /// Whether another epoch of the same log has begun after this one.
    pub(super) fn is_over(&self, epoch: u32, at_us: u64) -> bool {
        let Some((began_us, keeper)) = self.log(epoch).and_then(|log| log.began) else { return false };
        let others = self.logs.iter().filter_map(|log| log.began);
        others.filter(|(_, other)| *other == keeper).any(|(us, _)| began_us < us && us <= at_us)
    }

    /// Whether there are several logs, so that a reader may be led from one to another while both go on.
    pub(super) fn has_several_logs(&self) -> bool {
        let mut keepers = self.logs.iter().filter_map(|log| log.began).map(|(_, keeper)| keeper);
        let first = keepers.next();
        keepers.any(|keeper| Some(keeper) != first)
    }

    /// When a stream was asked for.
    pub(super) fn opened_us(&self, stream: StreamId) -> u64 {
        self.stream(stream).map_or(0, |stream| self.records[stream.open_line].at_us)
    }

    /// How far a log had come at this time.
    pub(super) fn head_at(&self, epoch: u32, at_us: u64) -> u64 {
        let entries = self.log(epoch).map_or(&[][..], |log| &log.entries);
        let appended = entries.partition_point(|entry| entry.at_us <= at_us);
        appended.checked_sub(1).map_or(0, |last| entries[last].seq)
    }

    /// The numbers of all recipients that a recipient or pattern stands for, in order.
    pub(super) fn matching(&self, pattern: &str) -> Vec<u32> {
        match pattern.strip_suffix('*') {
            None => self.recipients.get(pattern).into_iter().collect(),
            Some(prefix) => {
                let named = (0..).zip(&self.recipients.names);
                named.filter(|(_, name)| name.starts_with(prefix)).map(|(number, _)| number).collect()
            }
        }
    }

    fn take(&mut self, line: usize, record: &'h Record, pass: &mut Pass<'h>) {
        each_position(&record.what, |position| {
            self.epochs.number(&position.epoch);
        });
        self.logs.resize_with(self.epochs.names.len(), EpochLog::default);
        if let Some(stream) = record.what.stream()
            && !matches!(record.what, What::Open(_))
        {
            self.take_of_stream(line, stream);
        }
        match &record.what {
            What::Open(open) => self.open(line, record, open, pass),
            What::Event(event) => pass.saw(event.position.as_ref().map(|position| self.pos(position))),
            What::Close(close) => {
                if let Some(&number) = self.by_stream.get(&close.stream) {
                    self.streams[number].ended = true;
                }
            }
            What::Left(reader) => {
                self.run.left.insert(reader, line);
            }
            What::Log(entry) => {
                let to = entry.to.iter().map(|to| self.recipients.number(to)).collect();
                let pos = self.pos(&entry.position);
                let (told_us, superseded_for) = (record.at_us, Vec::new());
                let at_us = entry.appended_us.unwrap_or(told_us);
                let entry =
                    Entry { seq: pos.seq, line: entry, record: line, at_us, told_us, to, superseded_for };
                let log = &mut self.logs[pos.epoch as usize];
                log.began.get_or_insert((record.at_us, &record.process));
                log.add(entry);
            }
            What::LogRecord(said) => {
                let pos = self.pos(&said.position);
                self.logs[pos.epoch as usize].add_record(said, record.at_us);
            }
            What::Uncounted(said) => {
                let pos = self.pos(&said.record.position);
                self.logs[pos.epoch as usize].add_uncounted(said, record.at_us);
            }
            What::LogKnown(known) => {
                let epoch = self.epochs.number(&known.epoch) as usize;
                self.logs.resize_with(self.epochs.names.len(), EpochLog::default);
                self.logs[epoch].set_known(known);
            }
            What::Kept(kept) => {
                let epoch = self.epochs.number(&kept.epoch);
                self.logs.resize_with(self.epochs.names.len(), EpochLog::default);
                self.kept.push(Kept { line, epoch, stretches: &kept.stretches });
            }
            What::Damaged(damaged) => {
                let epoch = self.epochs.number(&damaged.epoch);
                self.logs.resize_with(self.epochs.names.len(), EpochLog::default);
                self.damaged.push((epoch, damaged.after, damaged.through));
            }
            What::Head(position) => {
                let pos = self.pos(position);
                let log = &mut self.logs[pos.epoch as usize];
                log.head = log.head.max(pos.seq);
                log.began.get_or_insert((record.at_us, &record.process));
                self.run.head = Some(pos);
            }
            _ => self.take_of_publish(line, record, pass),
        }
    }

    fn take_of_publish(&mut self, line: usize, record: &'h Record, pass: &mut Pass<'h>) {
        match &record.what {
            What::PubCall(call) => {
                self.run.last_publish_us = record.at_us;
                if call.ephemeral {
                    self.ephemerals_us.push(record.at_us);
                }
                self.publishes.called(line, record.at_us, call);
            }
            What::PubAck(ack) => {
                let position = ack.position.as_ref().map(|position| self.pos(position));
                pass.saw(position);
                self.publishes.answered(line, ack.call, Answer::Acked(ack), position);
            }
            What::PubNack(call) => self.publishes.answered(line, *call, Answer::Nacked, None),
            What::PubUnknown(call) => self.publishes.answered(line, *call, Answer::Unknown, None),
            _ => self.take_of_run(line, record, pass),
        }
    }

    fn take_of_run(&mut self, line: usize, record: &'h Record, pass: &mut Pass<'h>) {
        match &record.what {
            What::Healed => self.run.healed_us = Some(record.at_us),
            What::End => self.run.end = Some((record.at_us, line)),
            What::Start => {
                self.starts.push((line, &record.process));
                self.run.down.remove(&*record.process);
                self.begin_life(record);
            }
            What::Follows(follows) => self.follow(record, follows),
            What::Crash => {
                self.run.down.insert(&record.process);
                for number in pass.running.remove(&*record.process).unwrap_or_default() {
                    self.streams[number].ended = true;
                }
            }
            _ => {}
        }
    }

    fn open(&mut self, line: usize, record: &'h Record, open: &'h Open, pass: &mut Pass<'h>) {
        let number = self.streams.len();
        if self.by_stream.insert(open.stream, number).is_some() {
            self.unsound.push((line, "this stream number was used before"));
        }
        pass.running.entry(&record.process).or_default().push(number);
        let issued = self.at(&open.presented).and_then(|pos| pass.issued.get(&pos.epoch).copied());
        self.streams.push(Stream {
            open,
            process: &record.process,
            open_line: line,
            lines: Vec::new(),
            ended: false,
            issued,
            before: pass.newest.insert((&open.reader, &record.process), number),
        });
    }

    fn take_of_stream(&mut self, line: usize, stream: StreamId) {
        match self.by_stream.get(&stream) {
            Some(&number) => self.streams[number].lines.push(line),
            None => self.unsound.push((line, "the stream of this record was never opened")),
        }
    }

    fn seal(&mut self) {
        for (epoch, log) in (0..).zip(&mut self.logs) {
            log.seal();
            for entry in &log.entries {
                self.publishes.landed(&entry.line.source, &entry.line.id, Pos { epoch, seq: entry.seq });
            }
        }
        if self.run.head.is_none() {
            let last = self.records.iter().rev().find_map(|record| match &record.what {
                What::Log(entry) => Some(self.pos(&entry.position).epoch),
                _ => None,
            });
            self.run.head = last.map(|epoch| Pos { epoch, seq: self.logs[epoch as usize].head });
        }
    }
}

impl Pass<'_> {
    fn saw(&mut self, pos: Option<Pos>) {
        if let Some(pos) = pos {
            let issued = self.issued.entry(pos.epoch).or_default();
            *issued = pos.seq.max(*issued);
        }
    }
}

impl<'h> Numbers<'h> {
    fn number(&mut self, name: &'h str) -> u32 {
        *self.numbers.entry(name).or_insert_with(|| {
            self.names.push(name);
            u32::try_from(self.names.len() - 1).unwrap_or(u32::MAX)
        })
    }

    fn get(&self, name: &str) -> Option<u32> {
        self.numbers.get(name).copied()
    }
}

/// Every position a record names.
fn each_position<'h>(what: &'h What, mut see: impl FnMut(&'h Position)) {
    let mut cursor = |cursor: &'h Cursor| {
        if let Cursor::At(position) = cursor {
            see(position);
        }
    };
    match what {
        What::Open(open) => cursor(&open.presented),
        What::Standing(standing) => cursor(&standing.cursor),
        What::Progress(mark) | What::CaughtUp(mark) | What::FellBehind(mark) => cursor(&mark.cursor),
        What::Goodbye(goodbye) => cursor(&goodbye.cursor),
        What::Subscribed(subscribed) => cursor(&subscribed.cursor),
        What::Gap(gap) => [&gap.from, &gap.to, &gap.cursor].into_iter().for_each(cursor),
        What::Welcome(welcome) => {
            cursor(&welcome.cursor);
            see(&welcome.head);
            see(&welcome.oldest);
        }
        What::PubAck(ack) => ack.position.iter().for_each(see),
        What::Event(event) => event.position.iter().for_each(see),
        What::Ungrant(ungrant) => ungrant.after.iter().for_each(see),
        What::Grant(grant) => see(&grant.after),
        What::Log(entry) => see(&entry.position),
        What::LogRecord(record) => see(&record.position),
        What::Uncounted(said) => see(&said.record.position),
        What::Head(position) => see(position),
        What::Handled(handled) => see(&handled.position),
        What::Stored(stored) => cursor(&stored.cursor),
        What::Missed(missed) => missed.after.iter().chain(&missed.through).for_each(see),
        What::Follows(follows) => follows.left.iter().chain([&follows.position]).for_each(see),
        _ => {}
    }
}
