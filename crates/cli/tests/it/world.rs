//! What the tests run: a folder of their own, commands that end, and processes that serve.

use std::fs;
use std::io::{BufRead as _, BufReader, Read};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, sync_channel};
use std::thread;
use std::time::Duration;

use serde_json::Value;

pub(crate) const BINARY: &str = env!("CARGO_BIN_EXE_galaxy-push");

/// How long anything may take, on a machine that is busy with other things.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

/// Where no hub answers: port 1 needs privileges, and nobody has used it for decades.
pub(crate) const NOBODY: &str = "http://127.0.0.1:1";

const FREE_PORTS: [&str; 6] =
    ["--hub-addr", "127.0.0.1:0", "--edge-addr", "127.0.0.1:0", "--admin-addr", "127.0.0.1:0"];

/// A folder of one test, in which its commands run.
pub(crate) struct Folder(PathBuf);

impl Folder {
    pub(crate) fn new(test: &str) -> Self {
        let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("{test}-{}", std::process::id()));
        fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    pub(crate) fn write(&self, name: &str, text: impl AsRef<[u8]>) {
        fs::write(self.path(name), text).unwrap();
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }

    pub(crate) fn read(&self, name: &str) -> String {
        fs::read_to_string(self.path(name)).unwrap()
    }

    /// The binary with these arguments, and nothing of the environment the tests run in.
    pub(crate) fn command(&self, args: &[&str]) -> Command {
        self.prepared(Command::new(BINARY), args)
    }

    /// A command that heeds this signal, also where the tests were started to ignore it, as under `nohup`.
    pub(crate) fn heeding(&self, signal: &str, args: &[&str]) -> Command {
        let mut command = Command::new("/usr/bin/env");
        command.arg(format!("--default-signal={signal}")).arg(BINARY);
        self.prepared(command, args)
    }

    fn prepared(&self, mut command: Command, args: &[&str]) -> Command {
        command.args(args).env_clear().current_dir(&self.0).stdin(Stdio::null());
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    }

    /// Runs a command to its end.
    pub(crate) fn run(&self, args: &[&str]) -> Outcome {
        Running::spawn(self.command(args)).end()
    }

    /// Runs a command that must succeed; what it printed.
    pub(crate) fn stdout(&self, args: &[&str]) -> String {
        let outcome = self.run(args);
        assert_eq!(outcome.code, Some(0), "{args:?}: {outcome:?}");
        outcome.stdout
    }

    /// Starts `serve` on free ports.
    pub(crate) fn serve(&self, args: &[&str]) -> Server {
        Server::start(self.command(&[&["serve"][..], &FREE_PORTS, args].concat()))
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// A process whose output is read line by line as it comes. Killed when dropped.
pub(crate) struct Running {
    pub(crate) child: Child,
    pub(crate) stdout: Lines,
    pub(crate) stderr: Lines,
}

/// How a command ended.
#[derive(Debug)]
pub(crate) struct Outcome {
    pub(crate) code: Option<i32>,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl Running {
    pub(crate) fn spawn(mut command: Command) -> Self {
        let mut child = command.spawn().unwrap();
        let stdout = Lines::of(child.stdout.take().unwrap());
        let stderr = Lines::of(child.stderr.take().unwrap());
        Self { child, stdout, stderr }
    }

    /// Waits for the end of the process; the lines that were not read yet.
    pub(crate) fn end(mut self) -> Outcome {
        let (stdout, stderr) = (self.stdout.rest(), self.stderr.rest());
        Outcome { code: self.child.wait().unwrap().code(), stdout, stderr }
    }

    pub(crate) fn signal(&self, name: &str) {
        let pid = self.child.id().to_string();
        assert!(Command::new("kill").args(["-s", name, &pid]).status().unwrap().success());
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Lines of a pipe or socket, read by a thread, so that waiting for one has a limit.
pub(crate) struct Lines(Receiver<String>);

impl Lines {
    pub(crate) fn of(source: impl Read + Send + 'static) -> Self {
        let (sender, receiver) = sync_channel(1 << 10);
        thread::spawn(move || {
            for line in BufReader::new(source).lines() {
                let Ok(line) = line else { return };
                if sender.send(line).is_err() {
                    return;
                }
            }
        });
        Self(receiver)
    }

    /// The next line; `None` at the end.
    pub(crate) fn next(&self) -> Option<String> {
        use std::sync::mpsc::RecvTimeoutError::{Disconnected, Timeout};
        match self.0.recv_timeout(PATIENCE) {
            Ok(line) => Some(line),
            Err(Disconnected) => None,
            Err(Timeout) => panic!("waited {PATIENCE:?} for a line"),
        }
    }

    pub(crate) fn json(&self) -> Value {
        let line = self.next().expect("another line");
        serde_json::from_str(&line).unwrap_or_else(|error| panic!("{error}: {line}"))
    }

    /// Reads up to the first line that contains `text`.
    pub(crate) fn find(&self, text: &str) -> String {
        let mut read = String::new();
        while let Some(line) = self.next() {
            if line.contains(text) {
                return line;
            }
            read += &(line + "\n");
        }
        panic!("no line contains {text:?}: {read}");
    }

    fn rest(&self) -> String {
        std::iter::from_fn(|| self.next()).map(|line| line + "\n").collect()
    }
}

/// A process that serves, and where.
pub(crate) struct Server {
    pub(crate) process: Running,
    pub(crate) hub: String,
    pub(crate) edge: String,
    pub(crate) admin: String,
}

impl Server {
    /// Starts a role and waits until it says where it listens.
    pub(crate) fn start(mut command: Command) -> Self {
        command.arg("--ready-json");
        let process = Running::spawn(command);
        let Some(line) = process.stdout.next() else { panic!("did not start: {:?}", process.end()) };
        let urls: Value = serde_json::from_str(&line).unwrap();
        let url = |role: &str| urls[role].as_str().unwrap_or_default().to_owned();
        Self { hub: url("hub"), edge: url("edge"), admin: url("admin"), process }
    }
}

/// What the command says of the one event that it published.
pub(crate) fn publish(folder: &Folder, server: &Server, id: &str) -> Value {
    let to = ["publish", "--hub", &server.hub, "--to", "user:1", "--type", "t", "--id", id, "--source", "/s"];
    serde_json::from_str(&folder.stdout(&to)).unwrap()
}

/// So many frames of what lies behind a cursor.
pub(crate) fn tail(folder: &Folder, server: &Server, from: &str, count: &str) -> Vec<Value> {
    let tail = ["tail", "--hub", &server.hub, "--from", from, "--count", count, "--all-frames"];
    folder.stdout(&tail).lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// A line of a file to publish.
pub(crate) fn line(id: &str, to: &str) -> String {
    format!(
        r#"{{"specversion":"1.0","id":"{id}","source":"test","type":"test.line","to":"{to}","data":{{"id":"{id}"}}}}"#
    ) + "\n"
}
