//! A gateway in Go, as teams had them before there was a client library: it knows nothing but the last cursor it was sent, and is a
//! reader like the others. This is its other end: what it says of itself becomes the history.

use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::{Child, ChildStdout, Command, Stdio};

use anyhow::Context as _;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use galaxy_push_proto::v1;
use galaxy_push_testkit::Recorder;
use galaxy_push_testkit::history::{Close, Hop, Name, Open, What};
use prost::Message as _;
use serde::Deserialize;

use crate::frames::{self, StreamLog};
use crate::real::clock_us;

/// Its gateway id, and its name in the history.
pub(super) const OLD: &str = "old-gateway";

/// One line of what it says.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Line {
    /// It asks for a stream, and presents this.
    Open(String),
    /// A frame of it, in base64.
    Frame(String),
    /// The stream has ended, with this status.
    End(String),
}

/// The process. Killed when dropped.
#[derive(Debug)]
pub(super) struct OldGateway(Child);

impl OldGateway {
    /// Starts it.
    pub(super) fn start(program: &Path, hubs: &str, recorder: &Recorder, log: &Path) -> anyhow::Result<Self> {
        let log = std::fs::OpenOptions::new().create(true).append(true).open(log)?;
        let mut command = Command::new(program);
        command.args(["-follow", OLD, "-hubs", hubs]);
        let child = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(log).spawn();
        let mut child = child.with_context(|| format!("cannot start {}", program.display()))?;
        let stdout = child.stdout.take().context("no stdout")?;
        let recorder = recorder.process(OLD);
        recorder.record(clock_us(), What::Start);
        std::thread::spawn(move || {
            // What it says that is no frame of the contract is a broken promise; it is seen because nothing comes after it.
            if let Err(error) = write_down(stdout, &recorder) {
                crate::command::tell(&format!("{OLD} is read no more: {error:#}"));
            }
        });
        Ok(Self(child))
    }
}

impl Drop for OldGateway {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn write_down(stdout: ChildStdout, recorder: &Recorder) -> anyhow::Result<()> {
    let mut stream = None;
    for line in BufReader::new(stdout).lines() {
        // One that is cut short by its end is none.
        let Ok(line) = serde_json::from_str(&line?) else { continue };
        match (line, &stream) {
            (Line::Open(presented), _) => {
                let begun = StreamLog::new(recorder, clock_us);
                begun.record(What::Open(Open {
                    stream: begun.stream,
                    hop: Hop::Gateway,
                    reader: Name::from(OLD),
                    recipients: Vec::new(),
                    presented: frames::cursor(&presented),
                    standing: false,
                    collapses: false,
                    at: None,
                    continues: false,
                    steady: false,
                }));
                stream = Some(begun);
            }
            (Line::Frame(frame), Some(stream)) => {
                stream.proto(&v1::PushEvent::decode(&*STANDARD.decode(frame)?)?)?;
            }
            (Line::End(code), Some(begun)) => {
                begun.record(What::Close(Close { stream: begun.stream, code: code.into() }));
                stream = None;
            }
            (Line::Frame(_) | Line::End(_), None) => anyhow::bail!("a line of no stream"),
        }
    }
    Ok(())
}
