//! Which web pages may reach this gateway: the check of Origin and, in development, of Host.
//!
//! A browser lets any page open a WebSocket anywhere and says only where the page came from; a page that makes its own
//! name resolve to this machine even looks like the same origin. In development, where no token stands in the way, both
//! are refused here.

use std::sync::Arc;

use axum::extract::{Request, State};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use galaxy_push_listener::{address, host, is_local_name};
use galaxy_push_proto::{Failure, Reason};
use http::{HeaderMap, HeaderValue, Method, StatusCode, Uri, header, uri::Authority};

use crate::metrics::Metrics;
use crate::problem;

/// What pages elsewhere may send.
const ALLOWED_HEADERS: HeaderValue = HeaderValue::from_static(
    "authorization, content-type, last-event-id, ce-id, ce-source, ce-specversion, ce-type, ce-to",
);

/// How long a browser may remember that, in seconds.
const PREFLIGHT_AGE: HeaderValue = HeaderValue::from_static("600");

/// The rule for one gateway.
#[derive(Clone, Debug)]
pub(crate) struct Origins {
    /// Exactly as browsers send them.
    allowed: Vec<String>,
    development: bool,
    metrics: Arc<Metrics>,
}

impl Origins {
    pub(crate) fn new(allowed: Vec<String>, development: bool, metrics: Arc<Metrics>) -> Self {
        Self { allowed, development, metrics }
    }

    /// Whether this request may go on.
    ///
    /// # Errors
    ///
    /// It comes from a page that is not allowed, or goes to a name that is not this machine's.
    pub(crate) fn check(&self, uri: &Uri, headers: &HeaderMap) -> Result<(), Failure> {
        let host = host(uri, headers);
        if self.development && !host.as_ref().is_some_and(|host| self.is_ours(host)) {
            let message = "in development mode only localhost, addresses, and the hosts of allowed origins are served: \
                           use one of them in the URL";
            return Err(Failure::new(Reason::NotGranted, message).field("Host"));
        }
        let mut origins = headers.get_all(header::ORIGIN).iter();
        let Some(origin) = origins.next() else { return Ok(()) };
        let allowed = origins.next().is_none()
            && origin.to_str().is_ok_and(|origin| {
                self.allowed.iter().any(|allowed| allowed == origin)
                    || self.development && (is_local(origin) || is_same(origin, host.as_ref()))
            });
        if allowed {
            return Ok(());
        }
        let message = "pages of this origin may not connect: name it in the gateway's allowed origins";
        Err(Failure::new(Reason::NotGranted, message).field("Origin"))
    }

    /// A name that resolves here only because an attacker says so is neither an address nor localhost.
    fn is_ours(&self, host: &Authority) -> bool {
        is_local_name(host.host())
            || address(host.host()).is_some()
            || self
                .allowed
                .iter()
                .filter_map(|origin| authority_of(origin))
                .any(|known| known.host() == host.host())
    }
}

/// Whether a setting is an origin at all, as browsers write them.
pub(crate) fn is_origin(text: &str) -> bool {
    let plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"-._:[]".contains(&byte);
    authority_of(text)
        .is_some_and(|authority| !authority.host().is_empty() && authority.as_str().bytes().all(plain))
}

/// Applies the rule, and lets pages of an allowed origin read the answer.
pub(crate) async fn guard(State(origins): State<Arc<Origins>>, request: Request, next: Next) -> Response {
    if let Err(failure) = origins.check(request.uri(), request.headers()) {
        origins.metrics.refused(&failure);
        return problem::response(&failure);
    }
    let origin = request.headers().get(header::ORIGIN).cloned();
    let preflight = request.method() == Method::OPTIONS
        && request.headers().contains_key(header::ACCESS_CONTROL_REQUEST_METHOD);
    let mut response =
        if preflight && origin.is_some() { preflight_answer() } else { next.run(request).await };
    let headers = response.headers_mut();
    headers.append(header::VARY, HeaderValue::from_static("origin"));
    if let Some(origin) = origin {
        headers.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, origin);
    }
    response
}

fn preflight_answer() -> Response {
    let headers = [
        (header::ACCESS_CONTROL_ALLOW_METHODS, HeaderValue::from_static("GET, POST")),
        (header::ACCESS_CONTROL_ALLOW_HEADERS, ALLOWED_HEADERS),
        (header::ACCESS_CONTROL_MAX_AGE, PREFLIGHT_AGE),
    ];
    (StatusCode::NO_CONTENT, headers).into_response()
}

fn authority_of(origin: &str) -> Option<Authority> {
    let rest = origin.strip_prefix("http://").or_else(|| origin.strip_prefix("https://"))?;
    // An authority alone: a path, a user or a query would make it something else than an origin.
    rest.parse::<Authority>().ok().filter(|authority| authority.as_str() == rest && !rest.contains('@'))
}

fn is_same(origin: &str, host: Option<&Authority>) -> bool {
    let Some(of_page) = authority_of(origin) else { return false };
    let default = if origin.starts_with("https:") { 443 } else { 80 };
    host.is_some_and(|host| {
        let ports = (of_page.port_u16().unwrap_or(default), host.port_u16().unwrap_or(default));
        of_page.host().eq_ignore_ascii_case(host.host()) && ports.0 == ports.1
    })
}

fn is_local(origin: &str) -> bool {
    authority_of(origin).is_some_and(|of_page| is_local_name(of_page.host()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(origins: &Origins, host: &str, origin: Option<&'static str>) -> bool {
        let mut headers = HeaderMap::new();
        headers.insert(header::HOST, host.parse().unwrap());
        if let Some(origin) = origin {
            headers.insert(header::ORIGIN, origin.parse().unwrap());
        }
        origins.check(&"/v1/stream".parse().unwrap(), &headers).is_ok()
    }

    #[test]
    fn in_development_only_this_machine() {
        let origins = Origins::new(vec!["https://app.example".into()], true, Arc::default());
        for (host, origin, allowed) in [
            ("127.0.0.1:8080", None, true),
            ("localhost:8080", None, true),
            ("[::1]:8080", None, true),
            ("192.168.1.5:8080", None, true),
            ("app.example", None, true),
            ("evil.example:8080", None, false),
            ("localhost.evil.example", None, false),
            ("127.0.0.1.evil.example", None, false),
            ("localhost@evil.example", None, false),
            ("127.0.0.1:8080", Some("http://127.0.0.1:8080"), true),
            ("127.0.0.1:8080", Some("http://localhost:3000"), true),
            ("127.0.0.1:8080", Some("http://[::1]:3000"), true),
            ("192.168.1.5:8080", Some("http://192.168.1.5:8080"), true),
            ("192.168.1.5:8080", Some("http://192.168.1.5:8081"), false),
            ("127.0.0.1:8080", Some("https://app.example"), true),
            ("127.0.0.1:8080", Some("https://app.example:444"), false),
            ("127.0.0.1:8080", Some("http://evil.example"), false),
            ("127.0.0.1:8080", Some("http://localhost.evil.example"), false),
            ("127.0.0.1:8080", Some("http://localhost@evil.example"), false),
            ("127.0.0.1:8080", Some("http://evil.example/http://localhost"), false),
            ("127.0.0.1:8080", Some("http://evil.example#localhost"), false),
            ("127.0.0.1:8080", Some("null"), false),
            ("127.0.0.1:8080", Some(""), false),
            ("127.0.0.1:8080", Some("file://"), false),
            ("evil.example", Some("http://evil.example"), false),
        ] {
            assert_eq!(check(&origins, host, origin), allowed, "{host} {origin:?}");
        }
    }

    #[test]
    fn with_keys_exactly_the_listed_origins() {
        let origins = Origins::new(
            vec!["https://app.example".into(), "http://localhost:3000".into()],
            false,
            Arc::default(),
        );
        for (origin, allowed) in [
            (None, true),
            (Some("https://app.example"), true),
            (Some("http://localhost:3000"), true),
            (Some("http://localhost:3001"), false),
            (Some("http://app.example"), false),
            (Some("https://app.example:443"), false),
            (Some("https://APP.example"), false),
            (Some("https://app.example.evil"), false),
            (Some("https://sub.app.example"), false),
            (Some("https://app.example/"), false),
            (Some("https://gateway.example"), false),
            (Some("null"), false),
            (Some("*"), false),
        ] {
            assert_eq!(check(&origins, "gateway.example", origin), allowed, "{origin:?}");
        }
    }

    #[test]
    fn two_origins_or_hosts_are_none() {
        let origins = Origins::new(vec!["https://app.example".into()], true, Arc::default());
        let mut headers = HeaderMap::new();
        headers.append(header::HOST, "localhost".parse().unwrap());
        headers.append(header::ORIGIN, "https://app.example".parse().unwrap());
        assert!(origins.check(&"/".parse().unwrap(), &headers).is_ok());
        headers.append(header::ORIGIN, "https://app.example".parse().unwrap());
        assert!(origins.check(&"/".parse().unwrap(), &headers).is_err());
        headers.remove(header::ORIGIN);
        headers.append(header::HOST, "localhost".parse().unwrap());
        assert!(origins.check(&"/".parse().unwrap(), &headers).is_err());
    }
}
