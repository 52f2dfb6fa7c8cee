//! The end of a run that was told to end: what is under way is waited for, for a moment, so that the checkpoint names it.

use std::future::pending;
use std::pin::Pin;
use std::time::Duration;

use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::time::{sleep, timeout};

use super::progress::Progress;
use crate::hangups;

/// How long what is under way is waited for.
const FINISHING: Duration = Duration::from_secs(5);

/// What takes no longer is waited for without a word.
const MOMENT: Duration = Duration::from_millis(200);

/// Somebody ended the run.
#[derive(Debug)]
pub(super) struct Ended {
    pub(super) by: &'static str,
    /// How many events the hub may have taken or not.
    pub(super) unknown: usize,
}

/// Ctrl-C, SIGTERM and, where that is not ignored, SIGHUP: its terminal is gone.
pub(super) struct Signals {
    interrupt: Signal,
    terminate: Signal,
    hangup: Option<Signal>,
}

impl Signals {
    pub(super) fn listen() -> std::io::Result<Self> {
        let hangup = if hangups::are_ignored() { None } else { Some(signal(SignalKind::hangup())?) };
        let (interrupt, terminate) = (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?);
        Ok(Self { interrupt, terminate, hangup })
    }

    /// Cancel safe.
    pub(super) async fn next(&mut self) -> &'static str {
        let hung_up = async {
            match &mut self.hangup {
                Some(hangup) => hangup.recv().await,
                None => pending().await,
            }
        };
        tokio::select! {
            biased;
            _ = self.interrupt.recv() => "Ctrl-C",
            _ = self.terminate.recv() => "SIGTERM",
            _ = hung_up => "SIGHUP",
        }
    }

    /// Waits for the end of a run that takes up nothing new. `None`: it takes too long, or another signal came.
    pub(super) async fn finish<T>(
        &mut self,
        by: &str,
        progress: &Progress,
        mut run: Pin<&mut impl Future<Output = T>>,
    ) -> Option<T> {
        if let Ok(outcome) = timeout(MOMENT, run.as_mut()).await {
            return Some(outcome);
        }
        progress.tell(&format!(
            "{by}: waiting for what is under way, for {} at most; a second one ends it at once",
            humantime::format_duration(FINISHING)
        ));
        tokio::select! {
            biased;
            outcome = run => Some(outcome),
            _ = self.next() => None,
            () = sleep(FINISHING) => None,
        }
    }
}

impl std::fmt::Display for Ended {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "ended by {}", self.by)?;
        match self.unknown {
            0 => Ok(()),
            1 => f.write_str("; whether the hub took the event under way is unknown"),
            many => write!(f, "; whether the hub took the {many} events under way is unknown"),
        }
    }
}

impl std::error::Error for Ended {}
