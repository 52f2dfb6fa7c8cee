//! Waiting for a hub's answer: says when that takes long, and explains why there was none.
//!
//! Used by the commands that ask a hub for something. Trying again is the publisher client's business, not done here.

use std::time::Duration;

use anyhow::anyhow;
use galaxy_push_client::{Failure, Publisher};
use tokio::sync::watch;
use tokio::time::{sleep, timeout};

use crate::peer::Peer;

/// How long whoever waits is left without a word.
const PATIENCE: Duration = Duration::from_secs(1);

/// How long the last try may take, which begins when it is time to give up.
const LAST_TRY: Duration = Duration::from_secs(1);

/// How long asking what is wrong may take.
const ASKING: Duration = Duration::from_secs(1);

/// No answer, and for how long it was waited for.
pub(super) struct NoAnswer {
    pub(super) failure: Failure,
    waited: Duration,
}

/// Waits for a call that gives up after `limit`. `tell` says to whoever waits why it takes long: the `trouble` of the last try,
/// as far as one has failed.
pub(super) async fn patiently<T>(
    hubs: &str,
    peer: &Peer,
    limit: Duration,
    trouble: watch::Receiver<Option<Failure>>,
    tell: impl Fn(&str),
    call: impl Future<Output = Result<T, Failure>>,
) -> Result<T, NoAnswer> {
    tokio::select! {
        biased;
        answer = timeout(limit + LAST_TRY, call) => {
            let silence = || Failure::Lost("the hub did not answer in time".to_owned());
            let answer = answer.unwrap_or_else(|_| Err(silence()));
            answer.map_err(|failure| NoAnswer { failure, waited: limit })
        }
        failure = tell_why_it_takes_long(hubs, peer, limit, trouble, tell) => Err(NoAnswer { failure, waited: PATIENCE }),
    }
}

/// After a moment, tells why the last try failed, or asks the hub how it is and tells what it says; and then whatever becomes
/// the trouble next. Returns only if waiting longer makes no sense.
async fn tell_why_it_takes_long(
    hubs: &str,
    peer: &Peer,
    limit: Duration,
    mut trouble: watch::Receiver<Option<Failure>>,
    tell: impl Fn(&str),
) -> Failure {
    sleep(PATIENCE).await;
    let mut told = String::new();
    let mut known = trouble.borrow_and_update().clone();
    loop {
        let why = match known {
            Some(failure) => Ok(failure),
            None if told.is_empty() => ask(hubs, peer).await,
            None => Err(()),
        };
        let why = match why {
            // A proxy in front of a hub that is down answers 502 and the like; other answers do not become a hub.
            Ok(failure @ Failure::NotGrpc { status: 400..=499, .. }) => return failure,
            Ok(failure) => failure.to_string(),
            Err(()) => "the hub has not answered yet".to_owned(),
        };
        if why != told {
            tell(&format!("{why}; still trying, for {} in all", humantime::format_duration(limit)));
            told = why;
        }
        if trouble.changed().await.is_err() {
            return std::future::pending().await;
        }
        known = trouble.borrow_and_update().clone();
    }
}

/// Asks the hub how it is. `Err`: it does not say, or is well.
async fn ask(hubs: &str, peer: &Peer) -> Result<Failure, ()> {
    let asked = async {
        let builder = peer.clone().publisher(Publisher::builder().hub(hubs));
        builder.give_up_after(Duration::ZERO).build().ok()?.head().await.err()
    };
    timeout(ASKING, asked).await.ok().flatten().ok_or(())
}

impl NoAnswer {
    /// For people. `unknown` says what to do where the hub may have done what it was asked for.
    pub(super) fn explain(&self, hubs: &str, unknown: &str) -> anyhow::Error {
        let (failure, waited) = (&self.failure, humantime::format_duration(self.waited));
        match failure {
            Failure::Status(_) => anyhow!("{failure}"),
            Failure::NotGrpc { status, .. } => anyhow!(
                "{hubs} is no hub: it answered with HTTP status {status}\n\n  tip: --hub is the hub listener, on port 7400 \
                 unless `hub-addr` says otherwise; this command does not speak to users' port 8080 or the admin port 7401"
            ),
            Failure::Unreachable(why) if why.contains("certificate") => anyhow!(
                "{failure}; gave up after {waited}. Nothing was appended\n\n  tip: --hub-ca is the authority that signs the \
                 hub's certificate, and --hub names the hub as its certificate does; the hub's --hub-peer-ca signs --hub-cert"
            ),
            Failure::Unreachable(why) if why.contains("does not speak TLS") => {
                anyhow!("{failure}; gave up after {waited}. Nothing was appended")
            }
            Failure::Unreachable(_) => anyhow!(
                "{failure}; gave up after {waited}\n\n  tip: start a hub with `galaxy-push serve`, or name another with --hub"
            ),
            _ => anyhow!("{failure}; gave up after {waited}. {unknown}"),
        }
    }
}
