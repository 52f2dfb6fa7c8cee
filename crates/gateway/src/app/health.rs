//! How the gateway is, for probes and whoever operates it.
//!
//! It is ready without a hub, because its users are served from its own window; what is wrong on the other side is said all the
//! same.

use galaxy_push_client::{Door, State, Status};
use galaxy_push_listener::{Check, Health};

use super::Shared;

impl Health for Shared {
    fn checks(&self) -> Vec<Check> {
        let edge = &self.admission.edge;
        let caught_up = edge.is_caught_up();
        let draining = self.draining.is_cancelled();
        let hub = self.client();
        let (live, hub) = match &hub {
            Some(client) => {
                let status = client.status();
                let status = status.borrow();
                let why = status
                    .last_error
                    .as_ref()
                    .map(|error| format!("; last error: {error}"))
                    .unwrap_or_default();
                (status.state == State::Live, format!("{} for {:?}{why}", status.state, client.state_age()))
            }
            None => (false, "not connected".to_owned()),
        };
        let window = if caught_up { format!("at {}", edge.head()) } else { "not yet".to_owned() };
        let accepting = if draining { "shutting down" } else { "yes" };
        let check = |name, ok, needed, detail| Check { name, ok, needed, detail };
        let mut checks = vec![
            check("caught-up", caught_up, true, window),
            check("accepting", !draining, true, accepting.to_owned()),
            check("hub", live, false, hub),
        ];
        let Some(client) = self.client() else { return checks };
        if let Some(lasts) = client.stale_for() {
            let what = format!("for {lasts:?} the hub cannot reach its store: the log may go on without it");
            checks.push(check("hub-store", false, false, what));
        }
        let status = client.status();
        let status = status.borrow();
        if client.hubs().len() > 1 {
            checks.push(check("one-log", !status.is_split(), false, logs(client.hubs(), &status)));
        }
        checks
    }
}

/// Which hub holds which log, for whoever finds that they are not one.
fn logs(hubs: &[String], status: &Status) -> String {
    let each = hubs.iter().zip(&status.doors).map(|(hub, door)| match door {
        Door::Holds(epoch) => format!("{hub} holds {epoch}"),
        Door::Stale(epoch) => format!("{hub} holds {epoch} and cannot reach its store"),
        Door::Mute => format!("{hub} does not say"),
        Door::Silent(_) => format!("{hub} does not answer"),
        _ => format!("{hub} was not asked yet"),
    });
    let each = each.collect::<Vec<_>>().join(", ");
    let followed = status.epoch.map_or("none yet".to_owned(), |epoch| epoch.to_string());
    if status.is_split() {
        format!(
            "SPLIT: {each}; followed: {followed}. What another log acknowledges is seen by nobody here: let all publishers \
             and gateways use one hub, or hubs on one log"
        )
    } else {
        format!("{each}; followed: {followed}")
    }
}
