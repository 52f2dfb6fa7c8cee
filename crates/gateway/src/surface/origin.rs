//! Which web pages may reach this gateway: the check of Origin and, in development, of Host.
//!
//! A browser lets any page open a WebSocket anywhere and says only where the page came from; a page that makes its own
//! name resolve to this machine even looks like the same origin. In development, where no token stands in the way, both
//! are refused here.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use axum::Router;
use axum::extract::{Request, State};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use galaxy_push_listener::{address, host, is_local_name};
use galaxy_push_proto::{Failure, Reason};
use http::{HeaderMap, HeaderValue, Method, StatusCode, Uri, header, uri::Authority};

use crate::app::auth::Development;
use crate::app::metrics::Metrics;
use crate::app::origin::authority_of;
use crate::surface::problem;

/// What pages elsewhere may send besides attributes of events: what is read here, and what common readers and tracers add
/// by themselves.
const ALLOWED_HEADERS: &str = "authorization, content-type, last-event-id, cache-control, x-requested-with, traceparent, \
                               tracestate, baggage";

/// The names of attributes of events begin so. There is no end of them, so those that are asked for are allowed.
const ATTRIBUTE: &str = "ce-";

/// So many of them are, for one request.
const ATTRIBUTES_MAX: usize = 64;

/// How long a browser may remember that, in seconds.
const PREFLIGHT_AGE: HeaderValue = HeaderValue::from_static("600");

/// The rule for one gateway.
#[derive(Clone, Debug)]
pub(crate) struct Origins {
    /// Exactly as browsers send them.
    allowed: Vec<String>,
    development: Option<Development>,
    metrics: Arc<Metrics>,
    /// Whether it was said that requests come through a proxy.
    said: Arc<AtomicBool>,
}

impl Origins {
    pub(crate) fn new(allowed: Vec<String>, development: Option<Development>, metrics: Arc<Metrics>) -> Self {
        Self { allowed, development, metrics, said: Arc::default() }
    }

    /// Whether this request may go on.
    ///
    /// # Errors
    ///
    /// It comes from a page that is not allowed, goes to a name that is not this machine's, or comes through a proxy.
    pub(crate) fn check(&self, uri: &Uri, headers: &HeaderMap) -> Result<(), Failure> {
        self.check_way(headers)?;
        let host = host(uri, headers);
        let development = self.development.is_some();
        if development && !host.as_ref().is_some_and(|host| self.is_ours(host)) {
            let message = "in development mode only localhost, addresses, and the hosts of allowed origins are served: \
                           use one of them in the URL";
            return Err(Failure::new(Reason::NotGranted, message).field("Host"));
        }
        let mut origins = headers.get_all(header::ORIGIN).iter();
        let Some(origin) = origins.next() else { return Ok(()) };
        let allowed = origins.next().is_none()
            && origin.to_str().is_ok_and(|origin| {
                self.allowed.iter().any(|allowed| allowed == origin)
                    || development && (is_local(origin) || is_same(origin, host.as_ref()))
            });
        if allowed {
            return Ok(());
        }
        let message = "pages of this origin may not connect: name it in the gateway's allowed origins";
        Err(Failure::new(Reason::NotGranted, message).field("Origin"))
    }

    /// In development whoever connects is believed. Behind a proxy that may be anybody, whatever the address listened on;
    /// who wants that says so.
    fn check_way(&self, headers: &HeaderMap) -> Result<(), Failure> {
        let Some(development) = self.development else { return Ok(()) };
        let Some(name) = headers.keys().map(http::HeaderName::as_str).find(|name| is_of_a_proxy(name)) else {
            return Ok(());
        };
        if development == Development::Direct {
            let message = "this gateway is in development mode, in which whoever connects is believed, and this request came \
                           through a proxy: give the gateway keys (--user-keys), or --dev if nobody else reaches the proxy";
            return Err(Failure::new(Reason::NotGranted, message).field(name));
        }
        if !self.said.swap(true, Ordering::Relaxed) {
            tracing::warn!(
                header = name,
                "DEVELOPMENT MODE behind a proxy: whoever reaches the proxy can be any user and publish anything"
            );
        }
        Ok(())
    }

    /// A name that resolves here only because an attacker says so is neither an address nor localhost.
    fn is_ours(&self, host: &Authority) -> bool {
        is_local_name(host.host())
            || address(host.host()).is_some()
            || self
                .allowed
                .iter()
                .filter_map(|origin| authority_of(origin))
                .any(|known| known.host().eq_ignore_ascii_case(host.host()))
    }
}

/// Whether only proxies send a header of this name.
fn is_of_a_proxy(name: &str) -> bool {
    name == "forwarded" || name == "via" || name.starts_with("x-forwarded-")
}

/// Lets pages of these origins read what is answered in a gateway's place, as [`Gateway::router`](crate::Gateway::router) lets them
/// read its answers. A browser's `EventSource` never comes back after an answer that it may not read.
pub fn guard_origins(routes: Router, allowed: Vec<String>) -> Router {
    let origins = Origins::new(allowed, None, Arc::default());
    routes.layer(axum::middleware::from_fn_with_state(Arc::new(origins), check_origin))
}

/// Applies the rule, and lets pages of an allowed origin read the answer.
pub(crate) async fn check_origin(
    State(origins): State<Arc<Origins>>,
    request: Request,
    next: Next,
) -> Response {
    if let Err(failure) = origins.check(request.uri(), request.headers()) {
        origins.metrics.refused(&failure);
        return problem::response(&failure);
    }
    let origin = request.headers().get(header::ORIGIN).cloned();
    let preflight = request.method() == Method::OPTIONS
        && request.headers().contains_key(header::ACCESS_CONTROL_REQUEST_METHOD);
    let mut response = if preflight && origin.is_some() {
        preflight_answer(request.headers())
    } else {
        next.run(request).await
    };
    let headers = response.headers_mut();
    headers.append(header::VARY, HeaderValue::from_static("origin"));
    if let Some(origin) = origin {
        headers.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, origin);
        headers.insert(header::ACCESS_CONTROL_ALLOW_CREDENTIALS, HeaderValue::from_static("true"));
    }
    response
}

fn preflight_answer(asked: &HeaderMap) -> Response {
    let mut allowed = ALLOWED_HEADERS.to_owned();
    for name in attributes(asked) {
        allowed.extend([", ", &name]);
    }
    let allowed = HeaderValue::try_from(allowed).unwrap_or(HeaderValue::from_static(ALLOWED_HEADERS));
    let headers = [
        (header::ACCESS_CONTROL_ALLOW_METHODS, HeaderValue::from_static("GET, POST")),
        (header::ACCESS_CONTROL_ALLOW_HEADERS, allowed),
        (header::ACCESS_CONTROL_MAX_AGE, PREFLIGHT_AGE),
    ];
    (StatusCode::NO_CONTENT, headers).into_response()
}

/// The attributes of events that a preflight asks for.
fn attributes(asked: &HeaderMap) -> impl Iterator<Item = String> {
    let lists = asked.get_all(header::ACCESS_CONTROL_REQUEST_HEADERS).iter();
    let names = lists.filter_map(|list| list.to_str().ok()).flat_map(|list| list.split(','));
    let names = names.map(|name| name.trim().to_ascii_lowercase());
    let is_attribute = |name: &String| {
        name.strip_prefix(ATTRIBUTE)
            .is_some_and(|rest| !rest.is_empty() && rest.bytes().all(|byte| byte.is_ascii_alphanumeric()))
    };
    names.filter(is_attribute).take(ATTRIBUTES_MAX)
}

/// The host of a web page's origin, and the port that its scheme stands for.
fn web_authority(origin: &str) -> Option<(Authority, u16)> {
    let default = match origin.split_once(':')?.0 {
        "http" => 80,
        "https" => 443,
        _ => return None,
    };
    Some((authority_of(origin)?, default))
}

fn is_same(origin: &str, host: Option<&Authority>) -> bool {
    let Some((of_page, default)) = web_authority(origin) else { return false };
    host.is_some_and(|host| {
        let ports = (of_page.port_u16().unwrap_or(default), host.port_u16().unwrap_or(default));
        of_page.host().eq_ignore_ascii_case(host.host()) && ports.0 == ports.1
    })
}

fn is_local(origin: &str) -> bool {
    web_authority(origin).is_some_and(|(of_page, _)| is_local_name(of_page.host()))
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

    fn developing(development: Development) -> Origins {
        Origins::new(vec!["https://app.example".into()], Some(development), Arc::default())
    }

    #[test]
    fn development_mode_by_default_is_not_for_who_comes_through_a_proxy() {
        let proxied = |origins: &Origins, name: &'static str| {
            let mut headers = HeaderMap::new();
            headers.insert(header::HOST, "localhost".parse().unwrap());
            headers.insert(name, "203.0.113.7".parse().unwrap());
            origins.check(&"/v1/stream".parse().unwrap(), &headers)
        };
        let with_keys = Origins::new(Vec::new(), None, Arc::default());
        for name in ["forwarded", "via", "x-forwarded-for", "x-forwarded-proto", "x-forwarded-anything"] {
            let refused = proxied(&developing(Development::Direct), name).unwrap_err();
            assert!(
                refused.message.contains("--dev") && refused.field.as_deref() == Some(name),
                "{refused:?}"
            );
            assert!(proxied(&developing(Development::Proxied), name).is_ok(), "{name}");
            assert!(proxied(&with_keys, name).is_ok(), "{name}");
        }
        assert!(proxied(&developing(Development::Direct), "x-forwarded").is_ok());
    }

    #[test]
    fn in_development_only_this_machine() {
        let origins = developing(Development::Direct);
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
            ("evil.example@localhost", None, false),
            ("[[::1]]:8080", None, false),
            ("[::1:8080", None, false),
            ("[127.0.0.1]:8080", None, false),
            ("localhost:", None, false),
            ("localhost.:8080", None, true),
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
            ("127.0.0.1:8080", Some("http://[[::1]]:3000"), false),
            ("127.0.0.1:8080", Some("http://[127.0.0.1]:8080"), false),
            ("127.0.0.1:8080", Some("http://127.0.0.1]:8080"), false),
            ("127.0.0.1:8080", Some("http://localhost:"), false),
            ("127.0.0.1:8080", Some("capacitor://localhost"), false),
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
            vec![
                "https://app.example".into(),
                "http://localhost:3000".into(),
                "capacitor://localhost".into(),
            ],
            None,
            Arc::default(),
        );
        for (origin, allowed) in [
            (None, true),
            (Some("https://app.example"), true),
            (Some("http://localhost:3000"), true),
            (Some("http://localhost:3001"), false),
            (Some("capacitor://localhost"), true),
            (Some("capacitor://localhost:1"), false),
            (Some("http://localhost"), false),
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
        let origins = developing(Development::Direct);
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
