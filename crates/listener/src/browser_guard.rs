//! Refuses requests of web pages, for a listener that takes everybody who connects for a friend.
//!
//! A browser on a developer's machine reaches what listens on loopback, for any page that is open in it. It says where a
//! page comes from (`Origin`), but not when the page has made a name of its own resolve to this machine; then the name
//! it asked for (`Host`) tells. The edge has a finer rule, because pages are its users.
//!
//! ```text
//! Origin: https://evil.example                 refused: a page made this request
//! Host: evil.example, which resolves to here   refused: no name of this machine
//! Host: localhost, no Origin                   answered: curl, a client, a probe
//! ```

use std::net::{IpAddr, Ipv6Addr};
use std::sync::Arc;

use axum::Router;
use axum::extract::{Request, State};
use axum::middleware::{Next, from_fn_with_state, map_response};
use axum::response::{IntoResponse as _, Response};
use http::uri::Authority;
use http::{HeaderMap, HeaderValue, StatusCode, Uri, header};

use crate::log_limiter::LogLimiter;
use crate::peer::Peer;

const FROM_A_PAGE: &str = "requests of web pages are not taken here: send it without an Origin header";
const WRONG_HOST: &str = "only localhost and IP addresses are answered to here, so that no web page reaches this machine under \
                          a name of its own: use one of them, or start it with --allowed-hosts";

/// Which names a listener is asked for.
#[derive(Clone, Debug)]
pub enum AllowedHosts {
    /// Any: it is there for others.
    Any,
    /// Names of this machine, addresses, and these names of a proxy's.
    LocalAnd(Vec<String>),
}

/// The rule of one listener, and which refusals were logged.
struct BrowserGuard {
    hosts: AllowedHosts,
    refusals: LogLimiter,
}

/// Refuses requests that a web page made.
pub fn reject_browsers(app: Router, hosts: AllowedHosts) -> Router {
    app.layer(from_fn_with_state(Arc::new(BrowserGuard { hosts, refusals: LogLimiter::default() }), guard))
}

/// Tells browsers to take every answer for what it says it is, and not for what it looks like.
pub fn with_nosniff(app: Router) -> Router {
    app.layer(map_response(|mut response: Response| async {
        response.headers_mut().insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
        response
    }))
}

async fn guard(State(guard): State<Arc<BrowserGuard>>, request: Request, next: Next) -> Response {
    let hosts = &guard.hosts;
    let why = if request.headers().contains_key(header::ORIGIN) {
        FROM_A_PAGE
    } else if !hosts.admit(request.uri(), request.headers()) {
        WRONG_HOST
    } else {
        return next.run(request).await;
    };
    let peer = request.extensions().get::<Peer>().map(|peer| peer.0.ip());
    if let Some(left_out) = guard.refusals.count_address(peer) {
        let peer = peer.map(|peer| peer.to_string()).unwrap_or_default();
        let path = shown_path(request.uri().path());
        tracing::warn!(peer, path, reason = why, left_out, "refused");
    }
    refusal(request.headers(), why)
}

/// A path as logs show it: people put secrets into paths, and no segment of ours is this long.
#[must_use]
pub fn shown_path(path: &str) -> String {
    const SEGMENT_BYTES_MAX: usize = 40;
    let shown = |segment| if str::len(segment) > SEGMENT_BYTES_MAX { "…" } else { segment };
    path.split('/').map(shown).collect::<Vec<_>>().join("/")
}

fn refusal(headers: &HeaderMap, why: &str) -> Response {
    let content_type = headers.get(header::CONTENT_TYPE).map_or(&b""[..], |value| value.as_bytes());
    if content_type.starts_with(b"application/grpc") {
        let headers = [("content-type", "application/grpc"), ("grpc-status", "7"), ("grpc-message", why)];
        return headers.into_response();
    }
    let headers = [(header::CONTENT_TYPE, "application/problem+json"), (header::CACHE_CONTROL, "no-store")];
    let problem = format!(r#"{{"type":"about:blank","title":"Forbidden","status":403,"detail":"{why}"}}"#);
    (StatusCode::FORBIDDEN, headers, problem).into_response()
}

impl AllowedHosts {
    fn admit(&self, uri: &Uri, headers: &HeaderMap) -> bool {
        let Self::LocalAnd(names) = self else { return true };
        let Some(host) = host(uri, headers) else {
            // Every browser says which host it asks for; a probe need not. A name that cannot be read is no missing one.
            return uri.authority().is_none() && !headers.contains_key(header::HOST);
        };
        let host = host.host();
        is_local_name(host)
            || address(host).is_some()
            || names.iter().any(|name| name.eq_ignore_ascii_case(host))
    }
}

/// The host that a request is for: of the URI over HTTP/2, of the one `Host` header over HTTP/1. `None`: there is none,
/// or what stands there is no [`authority`].
#[must_use]
pub fn host(uri: &Uri, headers: &HeaderMap) -> Option<Authority> {
    if let Some(named) = uri.authority() {
        return authority(named.as_str());
    }
    let mut hosts = headers.get_all(header::HOST).iter();
    let host = authority(hosts.next()?.to_str().ok()?);
    host.filter(|_| hosts.next().is_none())
}

/// A host and perhaps a port, and nothing else: no user before it, brackets around an IPv6 address and nowhere else, a
/// port that is one. Parsers are lenient about these, each in its own way; what two of them read differently, one of them
/// lets in.
#[must_use]
pub fn authority(text: &str) -> Option<Authority> {
    let (host, port) = match text.strip_prefix('[') {
        Some(rest) => {
            let (inner, behind) = rest.split_once(']')?;
            inner.parse::<Ipv6Addr>().ok()?;
            (&text[..inner.len() + 2], behind)
        }
        None => text.split_at(text.find(':').unwrap_or(text.len())),
    };
    let is_port = |port: &str| {
        port.strip_prefix(':').is_some_and(|digits| {
            digits.bytes().all(|byte| byte.is_ascii_digit()) && digits.parse::<u16>().is_ok()
        })
    };
    let is_name = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~".contains(&byte);
    let named = host.starts_with('[') || !host.is_empty() && host.bytes().all(is_name);
    (named && (port.is_empty() || is_port(port))).then(|| text.parse().ok()).flatten()
}

/// Whether a host is `localhost`, a name below it, or a loopback address: nobody elsewhere can make it another machine.
/// The dot that ends a complete name may be there.
#[must_use]
pub fn is_local_name(host: &str) -> bool {
    let host = host.strip_suffix('.').unwrap_or(host).to_ascii_lowercase();
    host == "localhost"
        || host.ends_with(".localhost")
        || address(&host).is_some_and(|address| address.is_loopback())
}

/// The IP address that a host is, if it is one: an IPv6 address in brackets, an IPv4 address without.
#[must_use]
pub fn address(host: &str) -> Option<IpAddr> {
    match host.strip_prefix('[').map(|rest| rest.strip_suffix(']')) {
        Some(inner) => inner?.parse().ok().map(IpAddr::V6),
        None => host.parse().ok().map(IpAddr::V4),
    }
}

#[cfg(test)]
mod tests {
    use axum::body::Body;
    use axum::routing::get;
    use tower::ServiceExt as _;

    use super::*;

    async fn status(hosts: AllowedHosts, host: &str, origin: Option<&str>) -> u16 {
        let app = reject_browsers(Router::new().route("/", get(|| async { "ok" })), hosts);
        let mut request = Request::get("/").header("host", host);
        if let Some(origin) = origin {
            request = request.header("origin", origin);
        }
        app.oneshot(request.body(Body::empty()).unwrap()).await.unwrap().status().as_u16()
    }

    #[tokio::test]
    async fn a_page_is_told_by_its_origin_or_by_the_name_it_asks_for() {
        let local = || AllowedHosts::LocalAnd(vec!["hub.example".into()]);
        for (host, expected) in [
            ("127.0.0.1:7400", 200),
            ("[::1]:7400", 200),
            ("localhost", 200),
            ("LOCALHOST:7400", 200),
            ("a.localhost", 200),
            ("10.0.0.5:7400", 200),
            ("hub.example", 200),
            ("HUB.example:7400", 200),
            ("evil.example:7400", 403),
            ("localhost.evil.example", 403),
            ("127.0.0.1.evil.example", 403),
            ("hub.example.evil", 403),
            ("localhost.:7400", 200),
            ("", 403),
        ] {
            assert_eq!(status(local(), host, None).await, expected, "{host}");
            assert_eq!(status(local(), host, Some("http://127.0.0.1:7400")).await, 403, "{host}");
        }
        let app = reject_browsers(Router::new().route("/", get(|| async { "ok" })), local());
        let unnamed = app.oneshot(Request::get("/").body(Body::empty()).unwrap()).await.unwrap();
        assert_eq!(unnamed.status().as_u16(), 200, "a probe");
        assert_eq!(status(AllowedHosts::Any, "hub", None).await, 200);
        assert_eq!(status(AllowedHosts::Any, "hub", Some("http://hub")).await, 403);
    }

    /// Over HTTP/2, and in the absolute form of HTTP/1, the name stands in the URI.
    #[tokio::test]
    async fn a_name_in_the_uri_that_cannot_be_read_is_refused() {
        let app =
            reject_browsers(Router::new().route("/", get(|| async { "ok" })), AllowedHosts::LocalAnd(vec![]));
        for (authority, expected) in [
            ("127.0.0.1:7400", 200),
            ("evil$.example", 403),
            ("x@127.0.0.1", 403),
            ("127.0.0.1:99999", 403),
            ("a,localhost", 403),
        ] {
            let request = Request::get(format!("http://{authority}/")).body(Body::empty()).unwrap();
            let response = app.clone().oneshot(request).await.unwrap();
            assert_eq!(response.status().as_u16(), expected, "{authority}");
        }
    }

    #[test]
    fn a_secret_in_a_path_is_not_shown() {
        let token = "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiI0MiJ9.c2lnbmF0dXJlLW9mLWl0";
        assert_eq!(shown_path(&format!("/v1/events/{token}")), "/v1/events/…");
        assert_eq!(shown_path("/push.v1.Publisher/SetMembership"), "/push.v1.Publisher/SetMembership");
    }

    #[test]
    fn brackets_and_ports_are_read_strictly() {
        for good in [
            "localhost",
            "localhost:80",
            "127.0.0.1:0",
            "[::1]",
            "[::1]:7400",
            "a.example.:1",
            "_srv.x",
            "xn--a.b",
        ] {
            assert!(authority(good).is_some(), "{good}");
        }
        for bad in [
            "",
            ":80",
            "[::1",
            "::1]",
            "::1",
            "[[::1]]",
            "[::1]]",
            "[[::1]",
            "[]",
            "[::1]x",
            "[::1]80",
            "x[::1]",
            "[127.0.0.1]",
            "[localhost]",
            "localhost]",
            "[::1%25lo]",
            "localhost:",
            "localhost:x",
            "localhost:+80",
            "localhost:65536",
            "localhost:80:80",
            "user@localhost",
            "localhost/",
            "localhost,evil",
            "local host",
        ] {
            assert!(authority(bad).is_none(), "{bad}");
        }
        for (host, is) in [("[::1]", true), ("127.0.0.1", true), ("::1", false), ("[127.0.0.1]", false)] {
            assert_eq!(address(host).is_some(), is, "{host}");
        }
        for host in ["[[::1]]", "127.0.0.1]", "[::1", "[127.0.0.1"] {
            assert!(address(host).is_none() && !is_local_name(host), "{host}");
        }
    }

    #[tokio::test]
    async fn grpc_is_told_in_its_own_words() {
        let app = reject_browsers(Router::new(), AllowedHosts::LocalAnd(vec![]));
        let request = Request::post("http://evil.example/push.v1.Push/SubscribePush");
        let request = request.header("content-type", "application/grpc").body(Body::empty()).unwrap();
        let response = app.oneshot(request).await.unwrap();
        assert_eq!(
            (response.status().as_u16(), &response.headers()["grpc-status"]),
            (200, &"7".parse().unwrap())
        );
    }
}
