//! Where the token comes from that proves to a hub who this is.
//!
//! Asked by the dialer for each connection, so that a token that was replaced is used without a restart. Knows neither files
//! nor hubs.

use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use http::HeaderValue;
use tokio::task::spawn_blocking;

/// Says the token; `None`: not at present.
pub(crate) type Source = Box<dyn Fn() -> Option<String> + Send + Sync>;

/// The header that carries the token, as the source said it last. Cheap to clone; clones are the same token. Its `Debug` shows nothing of it.
#[derive(Clone)]
pub(crate) struct Token(Arc<Inner>);

struct Inner {
    /// `None`: it is never another.
    source: Option<Source>,
    last: Mutex<HeaderValue>,
    /// The source is being asked: where it hangs, no second thread asks it.
    asking: AtomicBool,
}

impl Token {
    /// Always the same. `None`: it cannot stand in a header.
    pub(crate) fn fixed(token: &str) -> Option<Self> {
        Some(Self(Arc::new(Inner {
            source: None,
            last: Mutex::new(bearer(token)?),
            asking: AtomicBool::new(false),
        })))
    }

    /// What this says. `None`: it has no token to begin with, or one that cannot stand in a header.
    pub(crate) fn from(source: Source) -> Option<Self> {
        let last = Mutex::new(bearer(&source()?)?);
        Some(Self(Arc::new(Inner { source: Some(source), last, asking: AtomicBool::new(false) })))
    }

    /// Whether it may be another for the next connection.
    pub(crate) fn may_change(&self) -> bool {
        self.0.source.is_some()
    }

    /// For a new connection. What the source does not say, or cannot be sent, leaves the token before; so does a source that is being
    /// asked already, and has not answered.
    ///
    /// Cancel safe.
    pub(crate) async fn header(&self) -> HeaderValue {
        let said = if self.0.source.is_some() && !self.0.asking.swap(true, Ordering::AcqRel) {
            let inner = self.0.clone();
            // It may read a file.
            let asked = spawn_blocking(move || {
                let _asking = Asking(&inner.asking);
                inner.source.as_ref().and_then(|source| source())
            });
            asked.await.ok().flatten().as_deref().and_then(bearer)
        } else {
            None
        };
        let mut last = self.0.last.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(said) = said {
            *last = said;
        }
        last.clone()
    }
}

/// Says at its end, also by a panic, that the source is asked no more.
struct Asking<'a>(&'a AtomicBool);

impl Drop for Asking<'_> {
    fn drop(&mut self) {
        self.0.store(false, Ordering::Release);
    }
}

/// The header that carries a token; `None` when the token cannot stand in one.
fn bearer(token: &str) -> Option<HeaderValue> {
    let mut value = HeaderValue::try_from(format!("Bearer {token}")).ok()?;
    value.set_sensitive(true);
    (!token.is_empty() && token.bytes().all(|byte| byte.is_ascii_graphic())).then_some(value)
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Token")
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicUsize;
    use std::sync::mpsc;
    use std::time::Duration;

    use tokio::time::timeout;

    use super::*;

    /// The fault: each dial asked a source that hangs once more, on a thread that never came back.
    #[tokio::test]
    async fn a_source_that_hangs_is_asked_once_and_leaves_the_token_before() {
        let (go_on, hangs) = mpsc::channel::<()>();
        let (asked, hangs) = (Arc::new(AtomicUsize::new(0)), Mutex::new(hangs));
        let source = {
            let asked = asked.clone();
            move || {
                if asked.fetch_add(1, Ordering::SeqCst) > 0 {
                    let _ = hangs.lock().unwrap().recv();
                    return Some("second".to_owned());
                }
                Some("first".to_owned())
            }
        };
        let token = Token::from(Box::new(source)).unwrap();
        assert!(timeout(Duration::from_millis(20), token.header()).await.is_err());
        for _ in 0..20 {
            let header = timeout(Duration::from_secs(5), token.header()).await;
            assert_eq!(header.expect("it does not wait for the source"), "Bearer first");
        }
        assert_eq!(asked.load(Ordering::SeqCst), 2, "at the beginning, and by the one that hangs");
        drop(go_on);
        while token.0.asking.load(Ordering::SeqCst) {
            tokio::task::yield_now().await;
        }
        assert_eq!(token.header().await, "Bearer second");
    }
}
