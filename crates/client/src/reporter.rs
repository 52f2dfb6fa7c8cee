//! Tells the hub, every few seconds, how far the handler is: the task beside the driver that [`Builder::report_every`]
//! asks for.
//!
//! It watches the status and never touches the stream. Reports go over a connection of their own, because a stream has
//! its connection for itself (docs/adr/0013). It decides nothing about retries either: a report that fails is forgotten,
//! and the next one says what is true by then.
//!
//! [`Builder::report_every`]: crate::Builder::report_every

use std::collections::BTreeMap;
use std::time::Duration;

use galaxy_push_core::FOR_EVER;
use galaxy_push_core::backoff::Cause;
use galaxy_push_core::cursor::StartFrom;
use galaxy_push_proto::v1::{GatewayReport, ReportSummary};
use tokio::sync::watch;
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;

use crate::random::Random;
use crate::rpc::REPORT;
use crate::transport::{Connection, Dialer};
use crate::{Failure, State, Status};

/// How long a report may take, its connection included.
const REPORT_DEADLINE: Duration = Duration::from_secs(5);

/// The answer holds nothing; this is room for what a later contract adds.
const SUMMARY_BYTES_MAX: usize = 64 << 10;

/// Everything one task of reports is made of.
pub(crate) struct Reporter {
    pub(crate) dialer: Dialer,
    /// What every report says alike.
    pub(crate) report: GatewayReport,
    pub(crate) every: Duration,
    pub(crate) connections: Option<Box<dyn Fn() -> u64 + Send>>,
    pub(crate) status: watch::Receiver<Status>,
    pub(crate) random: Random,
    pub(crate) stop: CancellationToken,
}

/// What the hub was sent last, and in which stream's life: another stream's hub may know nothing yet.
type LastReport = (u64, GatewayReport);

/// A connection, and to which hub.
type Kept = Option<(usize, Connection)>;

impl Reporter {
    /// Runs until the client stops.
    pub(crate) async fn run(mut self) {
        let stop = self.stop.clone();
        tokio::select! {
            biased;
            () = stop.cancelled() => {}
            () = self.run_reports() => {}
        }
    }

    async fn run_reports(&mut self) {
        let (mut connection_kept, mut last_sent, mut refused): (Kept, Option<LastReport>, _) =
            (None, None, None);
        // An error: the driver is gone, and nothing changes any more.
        while self.status.has_changed().is_ok() {
            sleep(self.pause()).await;
            let status = self.status.borrow().clone();
            if !matches!(status.state, State::Live | State::CatchingUp) {
                connection_kept = None;
                continue;
            }
            let now = (status.attempt, self.about(&status));
            if refused == Some(status.attempt) || last_sent.as_ref() == Some(&now) {
                continue;
            }
            match self.send(&mut connection_kept, status.hub, &now.1).await {
                Ok(ReportSummary {}) => last_sent = Some(now),
                Err(failure) if failure.cause() == Cause::Refused => {
                    let gateway = &*self.report.gateway_client_id;
                    tracing::info!(gateway, error = %failure, "the hub takes no reports; the next stream's will be asked again");
                    refused = Some(status.attempt);
                }
                Err(failure) => {
                    let gateway = &*self.report.gateway_client_id;
                    tracing::debug!(gateway, error = %failure, "a report was lost; the next one follows");
                }
            }
        }
    }

    /// A quarter more or less, so that a thousand gateways that came back together do not report together.
    fn pause(&mut self) -> Duration {
        let part = self.random.next() >> 32; // of 2^32
        let every = self.every.min(FOR_EVER);
        let half = ((every / 2).as_nanos() * u128::from(part)) >> 32;
        every / 4 * 3 + Duration::from_nanos(u64::try_from(half).unwrap_or(u64::MAX))
    }

    fn about(&self, status: &Status) -> GatewayReport {
        // Before anything is handled there is a wish where to start, and no position.
        let position = matches!(StartFrom::parse(&status.cursor), Ok(StartFrom::At(_) | StartFrom::Foreign));
        GatewayReport {
            handled_cursor: if position { status.cursor.clone() } else { String::new() },
            connections: self.connections.as_ref().map_or(0, |connections| connections()),
            counts: counts(status),
            ..self.report.clone()
        }
    }

    /// Tells one report. The connection is kept only where the hub took it.
    async fn send(
        &mut self,
        connection_kept: &mut Kept,
        hub: usize,
        report: &GatewayReport,
    ) -> Result<ReportSummary, Failure> {
        let kept = connection_kept.take().filter(|(at, _)| *at == hub);
        let exchange = async {
            let mut connection = match kept {
                Some((_, connection)) => connection,
                None => self.dialer.dial(hub).await?,
            };
            let summary = connection.unary(REPORT, report, SUMMARY_BYTES_MAX).await?;
            *connection_kept = Some((hub, connection));
            Ok(summary)
        };
        timeout(REPORT_DEADLINE, exchange)
            .await
            .unwrap_or_else(|_| Err(Failure::Lost("the hub did not answer in time".to_owned())))
    }
}

/// What has happened at all, by name.
fn counts(status: &Status) -> BTreeMap<String, u64> {
    let counters = &status.counters;
    let counts = [
        ("gaps", counters.gaps),
        ("log_changes", counters.log_changes),
        ("unreadable_cursors", counters.unreadable_cursors),
        ("fell_behind", counters.fell_behind),
        ("duplicates", counters.duplicates),
        ("handler_failures", counters.handler_failures),
        ("dead_letters", counters.dead_letters),
        ("store_failures", counters.store_failures),
    ];
    let counts = counts.into_iter().map(|(name, count)| (name.to_owned(), count));
    let ends = counters.ends.iter().map(|(end, count)| (format!("ends.{end}"), count));
    counts.chain(ends).filter(|(_, count)| *count > 0).collect()
}
