//! Who a user is, and what that user may ask for. Default deny: whatever is not granted is not received.

use std::collections::BTreeSet;

use galaxy_push_core::recipient::{Pattern, check_id};
use galaxy_push_proto::validate::CLOCK_SKEW;

use super::refusal::Refusal;

/// Which topics may be asked for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Grants(Vec<Pattern>);

/// A user, as a token or the development mode names one. Nobody at all is a user, too: one that receives only what
/// is for everybody.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Identity {
    pub(crate) user: Option<String>,
    pub(crate) session: Option<String>,
    pub(crate) grants: Grants,
    /// When it was issued.
    pub(crate) issued: Issued,
    /// When it ends, on the wall clock.
    pub(crate) expires_unix_ms: Option<u64>,
}

/// When a token was issued, in milliseconds of the wall clock, as invalidations judge it: what they void was issued before
/// a moment. By default it is older than every record.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Issued {
    /// For a record of its user: as the token says. A user signs in anew, perhaps in the same second.
    pub(crate) user_ms: u64,
    /// For a record of its session: earlier by as far as the issuer's clock may be ahead. Whoever signs in anew has another
    /// session, so nothing good is voided.
    pub(crate) session_ms: u64,
    /// Whether it is no token's word, but the moment at which names were taken on trust.
    on_trust: bool,
}

/// A record begins with the second in which the hub took it, unless it says otherwise.
const RECORD_BEGINS_WITHIN_MS: u64 = 1_000;

impl Issued {
    /// A token that says so.
    pub(crate) fn by_token(unix_ms: u64) -> Self {
        let skew_ms = u64::try_from(CLOCK_SKEW.as_millis()).unwrap_or(u64::MAX);
        // One millisecond more: what was issued at the very end of the skew is void, too.
        Self { user_ms: unix_ms, session_ms: unix_ms.saturating_sub(skew_ms + 1), on_trust: false }
    }

    /// Names taken on trust, when they were given: nobody's clock but the gateway's is in it.
    pub(crate) const fn on_trust(unix_ms: u64) -> Self {
        Self { user_ms: unix_ms, session_ms: unix_ms, on_trust: true }
    }

    /// As [`for_holder`](Self::for_holder), for a record that comes while the connection is open. Names taken on trust came
    /// with the connection, so it was there before the record, though perhaps in the very second in which that begins.
    pub(crate) fn for_holder_of_open(&self, holder: &str) -> u64 {
        let earlier = if self.on_trust { RECORD_BEGINS_WITHIN_MS } else { 0 };
        self.for_holder(holder).saturating_sub(earlier)
    }

    /// For a record of this holder.
    pub(crate) fn for_holder(&self, holder: &str) -> u64 {
        if holder.starts_with("session:") { self.session_ms } else { self.user_ms }
    }
}

impl Grants {
    /// Every topic.
    pub(crate) fn everything() -> Self {
        Self(Pattern::parse("topic:*").into_iter().collect())
    }

    /// Topic names, or beginnings of them with one trailing `*`. `None`: one of them is neither.
    pub(crate) fn of_names(names: &[String]) -> Option<Self> {
        names
            .iter()
            .map(|name| Pattern::parse(&format!("topic:{name}")).ok())
            .collect::<Option<_>>()
            .map(Self)
    }

    pub(crate) fn admits(&self, topic: &str) -> bool {
        let recipient = format!("topic:{topic}");
        self.0.iter().any(|pattern| pattern.admits(&recipient))
    }

    /// Checks the topics a connection asks for in all.
    ///
    /// # Errors
    ///
    /// Too many, a name that is none, or one that is not granted.
    pub(crate) fn check(&self, topics: &BTreeSet<String>, topics_max: usize) -> Result<(), Refusal> {
        if topics.len() > topics_max {
            return Err(Refusal::TooManyTopics { most: topics_max });
        }
        for topic in topics {
            check_id(topic).map_err(Refusal::TopicInvalid)?;
            if !self.admits(topic) {
                return Err(Refusal::TopicNotGranted);
            }
        }
        Ok(())
    }
}

impl Identity {
    /// The recipients it is, besides `all` and the topics it asks for.
    pub(crate) fn recipients(&self) -> impl Iterator<Item = String> {
        let user = self.user.iter().map(|id| format!("user:{id}"));
        user.chain(self.session.iter().map(|id| format!("session:{id}")))
    }

    /// Checks that a newer token may replace this one.
    ///
    /// # Errors
    ///
    /// It names another user or session.
    pub(crate) fn same_as(&self, newer: &Self) -> Result<(), Refusal> {
        let is_same = (&self.user, &self.session) == (&newer.user, &newer.session);
        if is_same { Ok(()) } else { Err(Refusal::OtherIdentity) }
    }
}

#[cfg(test)]
mod tests {
    use galaxy_push_core::recipient::InvalidRecipient;

    use super::*;

    fn names(names: &[&str]) -> Vec<String> {
        names.iter().map(|&name| name.to_owned()).collect()
    }

    #[test]
    fn what_is_not_granted_is_denied() {
        let none = Grants::default();
        assert!(!none.admits("news"));
        let some = Grants::of_names(&names(&["news", "orders/*"])).unwrap();
        for (topic, admitted) in [
            ("news", true),
            ("newsroom", false),
            ("orders/", true),
            ("orders/7", true),
            ("orders", false),
            ("", false),
        ] {
            assert_eq!(some.admits(topic), admitted, "{topic}");
        }
        assert!(Grants::everything().admits("anything/at all"));
        assert_eq!(Grants::of_names(&names(&["a b"])), None);
    }

    #[test]
    fn topics_are_checked_together() {
        let grants = Grants::of_names(&names(&["t*"])).unwrap();
        let ask = |topics: &[&str]| grants.check(&names(topics).into_iter().collect(), 3);
        assert_eq!(ask(&[]), Ok(()));
        assert_eq!(ask(&["t1", "t2", "t3"]), Ok(()));
        assert_eq!(ask(&["t1", "t2", "t3", "t4"]), Err(Refusal::TooManyTopics { most: 3 }));
        assert_eq!(ask(&["t1", "u"]), Err(Refusal::TopicNotGranted));
        assert_eq!(ask(&["t 1"]), Err(Refusal::TopicInvalid(InvalidRecipient::ForbiddenCharacter)));
        assert_eq!(ask(&[""]), Err(Refusal::TopicInvalid(InvalidRecipient::EmptyId)));
    }

    #[test]
    fn a_newer_token_is_for_the_same_user_and_session() {
        let ann = Identity { user: Some("ann".into()), session: Some("1".into()), ..Identity::default() };
        let later = Identity { expires_unix_ms: Some(7), ..ann.clone() };
        assert_eq!(ann.same_as(&later), Ok(()));
        let other = Identity { session: None, ..ann.clone() };
        assert_eq!(ann.same_as(&other), Err(Refusal::OtherIdentity));
        assert_eq!(ann.recipients().collect::<Vec<_>>(), ["user:ann", "session:1"]);
    }

    #[test]
    fn names_taken_on_trust_were_there_before_a_record_of_the_same_second() {
        let (connected, record_begins) = (10_200, 10_000);
        let (trusted, by_token) = (Issued::on_trust(connected), Issued::by_token(connected));
        assert!(trusted.for_holder_of_open("user:1") < record_begins, "the open connection ends");
        assert!(trusted.for_holder("user:1") >= record_begins, "who comes later in that second is let in");
        assert!(by_token.for_holder_of_open("user:1") >= record_begins, "so is a token of that second");
        assert!(Issued::on_trust(11_000).for_holder_of_open("user:1") >= record_begins);
    }
}
