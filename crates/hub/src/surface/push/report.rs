//! `Report`: what gateways say of themselves, above all how far they have *handled* what they were sent.
//!
//! A report belongs to the stream of the same gateway id and instance, and lives and dies with it; the ownership table keeps the latest
//! (`state/report.rs`). It moves nothing: neither the stream nor anybody's cursor depends on it. Scrapes and
//! [`Hub::status`](crate::Hub::status) show it.
//!
//! The request is one long stream of reports. They are applied no faster than ten a second, and HTTP/2 holds back a gateway
//! that sends more. It ends with the gateway, with a report that breaks a rule, with a drain, or with lost access; the
//! reports before that are applied.

use std::time::Duration;

use axum::body::Body;
use galaxy_push_core::cursor::StartFrom;
use galaxy_push_core::frame::{Deframer, PREFIX_BYTES};
use galaxy_push_core::recipient::check_id;
use galaxy_push_proto::v1::{GatewayReport, ReportSummary};
use galaxy_push_proto::{Failure, Reason, codec};
use http::Response;
use http_body_util::BodyExt as _;
use tokio::sync::watch;
use tokio::time::{Instant, sleep_until};
use tonic::{Code, Status};

use crate::app::drain;
use crate::app::shared::Shared;
use crate::state::access::Caller;
use crate::state::ownership;
use crate::state::report::Report;
use crate::surface::body::{self, ByteBody, Deadline, Encoding, Messages};
use crate::surface::grpc;
use crate::surface::revocation;

/// The largest report, in bytes: most of it may be the presence of users, at which this hub does not look.
const REPORT_BYTES_MAX: usize = 256 << 10;

/// The most counters of one report. With [`COUNT_NAME_BYTES_MAX`] they make a stream cost 8 KiB more at most.
const COUNTS_MAX: usize = 64;

const COUNT_NAME_BYTES_MAX: usize = 64;

/// Reports of one stream are taken no faster: each takes the lock that publishers and streams share. HTTP/2 holds a
/// gateway back that sends more.
const APART: Duration = Duration::from_millis(100);

/// Takes reports until the gateway ends the request.
///
/// # Errors
///
/// A report is out of order, not this caller's to make, or broke off; or the hub drains, or lets this caller in no more. The reports before it are taken.
pub(crate) async fn read_reports(
    shared: &Shared,
    caller: &Caller,
    encoding: Encoding,
    body: impl ByteBody,
) -> Result<Response<Body>, Failure> {
    let (from, room) = (Deadline::FromTheFirstByte, shared.queries_in_flight.clone());
    let mut body = Messages::new(body, REPORT_BYTES_MAX, from, body::WITHIN, room)
        .of(shared.access.get().quota_key(caller))
        .encoded(encoding);
    let received = body.received();
    // Taken before the look at the drain, which waits for the streams it has not turned away.
    let _open = shared.streams.token();
    let mut draining = shared.draining.subscribe();
    let mut grant = shared.access.grant(caller.clone());
    let (mut deframer, mut next_at) = (Deframer::new(REPORT_BYTES_MAX), Instant::now());
    loop {
        let next = tokio::select! {
            biased;
            () = drain::begins(&mut draining) => return Err(ownership::draining()),
            () = grant.revoked() => return Err(revocation::access_changed()),
            frame = body.frame() => frame.transpose().map_err(|status| broke_off(&status))?,
        };
        let Some(frame) = next else { break };
        deframer.push(frame.into_data().unwrap_or_default());
        while let Some(framed) = deframer.next_message().map_err(|error| grpc::unreadable(&error))? {
            pace(next_at, &mut draining).await?;
            next_at = Instant::now() + APART;
            apply(shared, caller, codec::decode(framed.slice(PREFIX_BYTES..))?)?;
            drop(received.take());
        }
    }
    if deframer.is_at_boundary() {
        return Ok(grpc::answer(&ReportSummary {}));
    }
    Err(Failure::new(Reason::RequestInvalid, "the request ends inside a report"))
}

/// Waits until the next report may be applied.
///
/// # Errors
///
/// A drain begins meanwhile.
async fn pace(next_at: Instant, draining: &mut watch::Receiver<bool>) -> Result<(), Failure> {
    tokio::select! {
        biased;
        () = drain::begins(draining) => Err(ownership::draining()),
        () = sleep_until(next_at) => Ok(()),
    }
}

/// Hands a report to the ownership table, which keeps it if its instance has the stream.
fn apply(shared: &Shared, caller: &Caller, report: GatewayReport) -> Result<(), Failure> {
    check(caller, &report)?;
    let handled = match StartFrom::parse(&report.handled_cursor) {
        Ok(StartFrom::At(cursor)) => Some(cursor),
        Ok(StartFrom::Head | StartFrom::Foreign | StartFrom::Unreadable) => None,
        Ok(StartFrom::Oldest) => {
            return Err(malformed("`oldest` is no position: leave the cursor empty before there is one"));
        }
        Err(error) => return Err(malformed(&error.to_string())),
    };
    let GatewayReport { gateway_client_id: gateway, instance_id: instance, connections, counts, .. } = report;
    let taken = shared.log.with_state(|state, now| {
        state.gateways.set_report(
            &gateway,
            &instance,
            Report { received_at: now.mono, handled, connections, counts },
        )
    });
    shared.metrics.report(if taken { "taken" } else { "stale" });
    if !taken {
        tracing::debug!(gateway, instance, "a report of an instance that has no stream is ignored");
    }
    Ok(())
}

/// Whether a report keeps to the rules, and is this caller's to make.
fn check(caller: &Caller, report: &GatewayReport) -> Result<(), Failure> {
    let invalid =
        |field: &str, message: String| Err(Failure::new(Reason::RequestInvalid, message).field(field));
    if let Err(error) = check_id(&report.gateway_client_id) {
        return invalid("gateway_client_id", format!("gateway_client_id: {error}"));
    }
    caller.acting_as(&report.gateway_client_id, "report")?;
    if report.counts.len() > COUNTS_MAX {
        return invalid("counts", format!("counts: more than {COUNTS_MAX} names"));
    }
    let unfit = |name: &&String| {
        name.is_empty() || name.len() > COUNT_NAME_BYTES_MAX || name.chars().any(char::is_control)
    };
    if report.counts.keys().any(|name| unfit(&name)) {
        let message =
            format!("counts: a name has 1 to {COUNT_NAME_BYTES_MAX} bytes and no control characters");
        return invalid("counts", message);
    }
    Ok(())
}

/// What this side refused is said as it is; anything else is the peer going away.
fn broke_off(status: &Status) -> Failure {
    let said = Failure::of(status);
    match status.code() {
        _ if said.reason.is_some() => said,
        Code::DeadlineExceeded => said,
        _ => Failure::without_reason(Code::Cancelled, format!("the reports broke off: {}", status.message())),
    }
}

/// The handled position is not one.
fn malformed(why: &str) -> Failure {
    Failure::new(Reason::CursorMalformed, format!("handled_cursor: {why}")).field("handled_cursor")
}
