//! What a role prints once it listens: its URLs for people, with commands to try, or one JSON line for scripts.

use std::io::Write as _;
use std::path::Path;

use serde::Serialize;

use super::listening::Places;
use crate::args::{EdgeArgs, HubArgs};

/// Where `publish` looks for a hub by itself.
const DEFAULT_HUB: &str = "http://127.0.0.1:7400";

#[derive(Serialize)]
pub(super) struct Announcement {
    #[serde(skip_serializing_if = "Option::is_none")]
    hub: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    edge: Option<String>,
    admin: String,
    /// The file of the keys that users' tokens are checked with; without one, users are named in the URL.
    #[serde(skip)]
    user_keys: Option<String>,
    /// `token` can sign with them what is taken here.
    #[serde(skip)]
    signs: bool,
    /// What a publisher needs besides the hub's URL.
    #[serde(skip)]
    hub_flags: String,
}

impl Announcement {
    /// `signs`: tokens can be signed with the keys they are checked with.
    pub(super) fn of(at: &Places, hub: Option<&HubArgs>, edge: Option<&EdgeArgs>, signs: bool) -> Self {
        let secure = hub.is_some_and(|hub| hub.hub_tls_cert.is_some());
        let by_token = hub.is_some_and(|hub| hub.hub_credentials.is_some());
        let (hub_url, edge_url, admin) = at.urls();
        Self {
            hub: hub_url,
            edge: edge_url,
            admin,
            hub_flags: [(secure, "--hub-ca CA.pem "), (by_token, "--hub-token-file TOKEN ")]
                .map(|(needed, flag)| if needed { flag } else { "" })
                .concat(),
            signs: signs && edge.is_some_and(is_signed_alone),
            user_keys: edge.and_then(|edge| Some(edge.user_keys.as_ref()?.display().to_string())),
        }
    }

    pub(super) fn print(&self, json: bool) -> anyhow::Result<()> {
        let text = if json { serde_json::to_string(self)? + "\n" } else { self.text(&program()) };
        let mut out = std::io::stdout().lock();
        out.write_all(text.as_bytes())?;
        out.flush()?;
        Ok(())
    }

    /// The first line of the log: what runs, where, and which life of the log began.
    pub(super) fn log(&self, epoch: Option<&str>) {
        let version = env!("CARGO_PKG_VERSION");
        tracing::info!(version, hub = self.hub, edge = self.edge, admin = self.admin, epoch, "serving");
    }

    fn text(&self, program: &str) -> String {
        let mut text = String::new();
        if let Some(hub) = &self.hub {
            text += &format!("hub    {hub}   gateways and publishers: gRPC, POST /v1/events\n");
        }
        if let Some(edge) = &self.edge {
            text += &format!("edge   {edge}   users: /v1/stream, /v1/ws\n");
        }
        text += &format!("admin  {}   /metrics, /readyz?verbose\n", self.admin);
        if let Some(edge) = &self.edge {
            text += &match &self.user_keys {
                None => format!(
                    "\nOpen {edge}/ in a browser, or be user 42 in another terminal:\n  curl -N '{edge}/v1/stream?user=42'\n"
                ),
                Some(_) if !self.signs => format!(
                    "\nBe a user in another terminal, with a token of theirs:\n  curl -N -H \"Authorization: Bearer $TOKEN\" {edge}/v1/stream\n"
                ),
                Some(keys) => format!(
                    "\nBe user 42 in another terminal:\n  curl -N -H \"Authorization: Bearer $({program} token --user-keys {keys} --user 42)\" {edge}/v1/stream\n"
                ),
            };
        }
        if let Some(hub) = &self.hub {
            let hub = if hub == DEFAULT_HUB { String::new() } else { format!("--hub {hub} ") };
            text += &format!(
                "{}Send user 42 an event:\n  {program} publish {hub}{}--to user:42 --type turn.ready '{{\"turn\":7}}'\n",
                if self.edge.is_some() { "" } else { "\n" },
                self.hub_flags
            );
        }
        text
    }
}

/// Whether a token needs no more than a signature.
const fn is_signed_alone(edge: &EdgeArgs) -> bool {
    edge.user_issuer.is_none() && edge.user_audience.is_none()
}

/// How whoever started this process would start it again: a path stays one, as behind `cargo run`.
fn program() -> String {
    std::env::args()
        .next()
        .filter(|program| Path::new(program).components().count() > 1)
        .unwrap_or_else(|| "galaxy-push".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_commands_fit_the_setup() {
        let mut announcement = Announcement {
            hub: Some(DEFAULT_HUB.into()),
            edge: Some("http://127.0.0.1:8080".into()),
            admin: "http://127.0.0.1:7401".into(),
            user_keys: None,
            signs: true,
            hub_flags: String::new(),
        };
        let text = announcement.text("galaxy-push");
        assert!(text.contains("curl -N 'http://127.0.0.1:8080/v1/stream?user=42'"), "{text}");
        assert!(text.contains("galaxy-push publish --to user:42"), "{text}");
        announcement.user_keys = Some("keys.json".into());
        announcement.hub = Some("http://127.0.0.1:9".into());
        let text = announcement.text("target/release/galaxy-push");
        assert!(text.contains("target/release/galaxy-push token --user-keys keys.json --user 42"), "{text}");
        assert!(text.contains("publish --hub http://127.0.0.1:9 --to"), "{text}");
        assert!(!text.contains("user=42"), "{text}");
        announcement.signs = false;
        let text = announcement.text("galaxy-push");
        assert!(text.contains("Bearer $TOKEN\"") && !text.contains("galaxy-push token"), "{text}");
    }
}
