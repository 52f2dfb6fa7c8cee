//! What a user says in a URL and in headers, on either transport.

use axum::extract::Query as AxumQuery;
use galaxy_push_proto::{Failure, Reason};
use http::{HeaderMap, Uri, header};
use percent_encoding::percent_decode_str;

use crate::surface::problem::bad_request;
use crate::surface::render::event_stream::Naming;

/// Names under which people try to pass a token in a URL, where logs and histories would keep it.
/// Compared without regard to case and to what joins words.
const TOKEN_NAMES: [&str; 14] = [
    "accesstoken",
    "token",
    "authtoken",
    "idtoken",
    "jwt",
    "jwttoken",
    "bearer",
    "bearertoken",
    "authorization",
    "auth",
    "apikey",
    "usertoken",
    "refreshtoken",
    "xaccesstoken",
];

/// Names under which `EventSource` polyfills send the last cursor in the URL, compared alike.
const LAST_EVENT_ID_NAMES: [&str; 2] = ["lasteventid", "evslasteventid"];

/// A user's request, as far as the URL tells it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Query {
    pub(crate) user: String,
    pub(crate) session: String,
    pub(crate) topics: Vec<String>,
    pub(crate) cursor: String,
    /// What an `EventSource` polyfill adds when it reconnects, since it cannot set the header across origins.
    pub(crate) last_event_id: String,
    pub(crate) naming: Naming,
    pub(crate) namespace: String,
}

/// What caches and readers add to make a URL unlike the one before.
const ALWAYS_IGNORED: &str = "_";

/// So much of an unknown name is said: it may be a token in the wrong place.
const NAME_CHARS_MAX: usize = 32;

impl Query {
    /// Reads the query of a URL. Names that are neither known nor to be `ignored` are refused: whoever writes `topics=` for
    /// `topic=` would otherwise wait in vain.
    ///
    /// # Errors
    ///
    /// A token in the URL, an unknown name, a value given twice, or one that is none.
    pub(crate) fn read(uri: &Uri, ignored: &[String]) -> Result<Self, Failure> {
        let AxumQuery(pairs) = AxumQuery::<Vec<(String, String)>>::try_from_uri(uri)
            .map_err(|_| bad_request("the query of the URL cannot be read"))?;
        let raw = uri.query().unwrap_or_default().split('&').filter(|pair| !pair.is_empty());
        if let Some(((name, _), _)) = pairs.iter().zip(raw).find(|(_, raw)| !is_text(raw)) {
            let name: String = name.chars().take(NAME_CHARS_MAX).collect();
            let message = format!("`{}` is not UTF-8 once it is decoded", name.escape_debug());
            return Err(bad_request(message).field(name));
        }
        let mut query = Self::default();
        let mut event = String::new();
        for (name, value) in pairs {
            let plain = name.replace(['_', '-', '.'], "").to_ascii_lowercase();
            if TOKEN_NAMES.contains(&plain.as_str()) {
                let message = "a token does not belong into a URL, which logs and histories keep: send it as \
                               `Authorization: Bearer …`, or in the first WebSocket message";
                return Err(bad_request(message).field(name));
            }
            if LAST_EVENT_ID_NAMES.contains(&plain.as_str()) {
                // Some add another each time: the last one is the newest.
                query.last_event_id = if value.is_empty() { query.last_event_id } else { value };
                continue;
            }
            let place = match name.as_str() {
                "topic" => {
                    query.topics.push(value);
                    continue;
                }
                "user" => &mut query.user,
                "session" => &mut query.session,
                "cursor" => &mut query.cursor,
                "event" => &mut event,
                "namespace" => &mut query.namespace,
                name if name == ALWAYS_IGNORED || ignored.iter().any(|ignored| ignored == name) => continue,
                name => return Err(unknown(name)),
            };
            if !place.is_empty() && *place != value {
                return Err(bad_request(format!("`{name}` is given twice")).field(name));
            }
            *place = value;
        }
        query.naming = match event.as_str() {
            "" => Naming::Types,
            "message" => Naming::Messages,
            _ => return Err(bad_request("`event` must be `message`, or be left out").field("event")),
        };
        Ok(query)
    }
}

fn unknown(name: &str) -> Failure {
    let name: String = name.chars().take(NAME_CHARS_MAX).collect::<String>().escape_debug().to_string();
    let message = format!(
        "`{name}` is no parameter of this URL: user, session, topic, cursor, event and namespace are; what a proxy adds is \
         left alone where the gateway is started with --ignored-query"
    );
    bad_request(message).field(name)
}

/// The token in `Authorization`.
///
/// # Errors
///
/// The header is there, and holds no bearer token.
pub(crate) fn bearer(headers: &HeaderMap) -> Result<Option<&str>, Failure> {
    let Some(value) = headers.get(header::AUTHORIZATION) else { return Ok(None) };
    let token = value.to_str().ok().and_then(|text| {
        let (scheme, token) = text.split_once(' ')?;
        scheme.eq_ignore_ascii_case("bearer").then(|| token.trim())
    });
    match token {
        Some(token) if !token.is_empty() && headers.get_all(header::AUTHORIZATION).iter().count() == 1 => {
            Ok(Some(token))
        }
        _ => Err(Failure::new(Reason::NotGranted, "`Authorization` must be `Bearer` and a token")
            .code(tonic::Code::Unauthenticated)),
    }
}

/// The cursor a browser presents by itself when it reconnects, whatever it is: where something on the way has added an
/// empty one, the last that is none. Empty: none.
pub(crate) fn last_event_id(headers: &HeaderMap) -> String {
    let presented =
        headers.get_all("last-event-id").iter().rfind(|id| !id.as_bytes().trim_ascii().is_empty());
    presented.map_or_else(String::new, |id| String::from_utf8_lossy(id.as_bytes()).into_owned())
}

/// Whether a part of a query is text once it is decoded. What is none would become the same as other that is none.
fn is_text(part: &str) -> bool {
    percent_decode_str(part).decode_utf8().is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(query: &str) -> Result<Query, Failure> {
        Query::read(&format!("/v1/stream?{query}").parse().unwrap(), &["utm_source".to_owned()])
    }

    #[test]
    fn queries() {
        let query = read("user=a%2Fb&topic=x&topic=y&cursor=oldest&event=message&_=123").unwrap();
        assert_eq!((query.user.as_str(), query.cursor.as_str()), ("a/b", "oldest"));
        assert_eq!((query.topics, query.naming), (vec!["x".to_owned(), "y".to_owned()], Naming::Messages));
        assert_eq!(read("").unwrap(), Query::default());
        assert_eq!(read("user=a&user=a").unwrap().user, "a");
        for (given, last) in
            [("lastEventId=1.a&lastEventId=1.b&lastEventId=", "1.b"), ("Last-Event-ID=x", "x")]
        {
            assert_eq!(read(&format!("cursor=1.c&{given}")).unwrap().last_event_id, last);
        }
        for bad in ["user=a&user=b", "cursor=1&cursor=2", "event=typed"] {
            assert_eq!(read(bad).unwrap_err().reason, Some(Reason::RequestInvalid), "{bad}");
        }
    }

    /// The fault: `%ff` and `%fe` were one user, whose name was U+FFFD.
    #[test]
    fn what_is_no_text_is_refused_by_its_name() {
        for (query, name) in [
            ("topic=a&user=%ff", "user"),
            ("user=%fe&topic=a", "user"),
            ("&&session=a%c3%28", "session"),
            ("topic=%ed%a0%80", "topic"),
            ("cursor=%C3", "cursor"),
            ("_=%80", "_"),
            ("%ff=a", "\u{fffd}"),
        ] {
            let failure = read(query).unwrap_err();
            assert_eq!(failure.field.as_deref(), Some(name), "{query}");
            assert!(failure.message.contains("not UTF-8"), "{}", failure.message);
        }
        assert_eq!(read("user=%c3%a9%F0%9F%98%80%zz%").unwrap().user, "é😀%zz%");
        assert_eq!(read("user=%EF%BF%BD").unwrap().user, "\u{fffd}", "said as such");
    }

    /// The fault: with an empty line before it a cursor was not seen, and what was missed not told.
    #[test]
    fn of_several_last_event_ids_the_last_that_is_not_empty_counts() {
        let of = |values: &[&'static str]| {
            let mut headers = HeaderMap::new();
            for value in values {
                headers.append("last-event-id", value.parse().unwrap());
            }
            last_event_id(&headers)
        };
        for (values, counts) in [
            (&[][..], ""),
            (&["", "2.a"], "2.a"),
            (&["2.a", ""], "2.a"),
            (&["2.a", "2.b", " "], "2.b"),
            (&["", ""], ""),
        ] {
            assert_eq!(of(values), counts, "{values:?}");
        }
    }

    #[test]
    fn an_unknown_parameter_is_refused_by_its_name() {
        for name in ["topics", "Topic", "user_id", "x", "utm_medium", "__", "last-event", ""] {
            let failure = read(&format!("{name}=1")).unwrap_err();
            assert_eq!(failure.reason, Some(Reason::RequestInvalid));
            assert!(failure.message.starts_with(&format!("`{name}` is no parameter")), "{}", failure.message);
            assert!(failure.message.contains("--ignored-query"), "{}", failure.message);
        }
        for ignored in ["_=1", "_", "utm_source=a&utm_source=b", ""] {
            assert_eq!(read(ignored).unwrap(), Query::default(), "{ignored}");
        }
        let planted = format!("{}.planted", "eyJhbGciOiJIUzI1NiJ9".repeat(4));
        assert!(!format!("{:?}", read(&planted).unwrap_err()).contains("planted"));
        assert_eq!(read("namespace=other").unwrap().namespace, "other");
    }

    #[test]
    fn a_token_in_a_url_is_refused_and_not_repeated() {
        for name in TOKEN_NAMES.iter().chain(&[
            "Access_Token",
            "TOKEN",
            "access-token",
            "x-access-token",
            "API_KEY",
            "jwt.",
        ]) {
            let failure = read(&format!("{name}=planted")).unwrap_err();
            assert_eq!(failure.reason, Some(Reason::RequestInvalid));
            assert!(!format!("{failure:?}").contains("planted"));
        }
    }

    #[test]
    fn bearer_tokens() {
        let of = |values: &[&'static str]| {
            let mut headers = HeaderMap::new();
            for value in values {
                headers.append(header::AUTHORIZATION, value.parse().unwrap());
            }
            bearer(&headers).map(|token| token.map(str::to_owned)).map_err(|failure| failure.code)
        };
        assert_eq!(of(&[]), Ok(None));
        assert_eq!(of(&["bearer  a.b.c"]), Ok(Some("a.b.c".into())));
        for bad in [&["Basic dXNlcg=="][..], &["Bearer"], &["Bearer "], &["a.b.c"], &["Bearer a", "Bearer b"]]
        {
            assert_eq!(of(bad), Err(tonic::Code::Unauthenticated), "{bad:?}");
        }
    }
}
