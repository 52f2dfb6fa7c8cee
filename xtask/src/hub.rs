//! A running `galaxy-push` for the commands that need one.
//!
//! Called by `page`. Ends the process when dropped.

use std::{
    collections::BTreeMap,
    env,
    fs::File,
    io::{self, BufRead, BufReader},
    path::Path,
    process::{Child, Command, Stdio},
    sync::mpsc,
    thread,
    time::Duration,
};

use anyhow::{Context, Result};

/// How long a role may take until it listens. It needs milliseconds; a loaded machine gets more.
const READY_WITHIN: Duration = Duration::from_secs(30);

/// A process that has said where it listens.
#[derive(Debug)]
pub(crate) struct Running {
    process: Child,
    urls: BTreeMap<String, String>,
}

impl Running {
    /// Starts `galaxy-push <arguments> --ready-json` with its log in `log`, and waits until it listens.
    pub(crate) fn start(binary: &Path, arguments: &[&str], log: &Path) -> Result<Self> {
        let log_file = File::create(log).with_context(|| format!("cannot write {}", log.display()))?;
        let mut command = Command::new(binary);
        // What the caller's shell has set for its own hub is not meant for this one.
        for (name, _) in env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("GALAXY_PUSH_"))
        {
            command.env_remove(name);
        }
        let mut process = command
            .args(arguments)
            .arg("--ready-json")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(log_file)
            .spawn()
            .with_context(|| format!("cannot start {}", binary.display()))?;
        let output = process.stdout.take().context("the process has no standard output")?;
        let mut running = Self { process, urls: BTreeMap::new() };

        // The reading thread goes on after the first line, so that the process is never stopped by a full pipe.
        let (send, receive) = mpsc::sync_channel(1);
        thread::spawn(move || {
            let mut reader = BufReader::new(output);
            let mut line = String::new();
            let first = reader.read_line(&mut line).map(|_| line);
            if send.send(first).is_ok() {
                let _ = io::copy(&mut reader, &mut io::sink());
            }
        });
        let failed =
            || format!("`galaxy-push {}` did not get ready; see {}", arguments.join(" "), log.display());
        let first = receive.recv_timeout(READY_WITHIN).with_context(failed)?.with_context(failed)?;
        running.urls = serde_json::from_str(&first).with_context(failed)?;
        Ok(running)
    }

    /// The address of a role: `hub`, `edge` or `admin`.
    pub(crate) fn url(&self, role: &str) -> Result<&str> {
        self.urls.get(role).map(String::as_str).with_context(|| format!("the process announced no {role}"))
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // Both fail only when the process has ended by itself.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}
