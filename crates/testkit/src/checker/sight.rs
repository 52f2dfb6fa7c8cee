//! What may happen in a history, by name: what `seen` counts.
//!
//! Used by whoever judges a step or the whole. Counts nothing itself.

use std::fmt;

/// Something worth having seen.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
#[expect(
    missing_docs,
    reason = "the names are those of outcomes, frames and gap reasons; others are described"
)]
pub enum Sight {
    Resumed,
    Fresh,
    Trimmed,
    EpochChanged,
    Ahead,
    /// A cursor that is none was refused: the stream closed without a welcome.
    GarbageRefused,
    /// Garbage of a reader that cannot act on a refusal was answered by a gap.
    GarbageTold,
    /// A cursor of an unknown version was presented.
    ForeignPresented,
    /// RESUMED, and at least one event was replayed.
    ResumedWithReplay,
    /// RESUMED, and `CaughtUp` came at once.
    ResumedAtHead,
    /// RESUMED from just before the oldest held.
    ResumedAtOldest,
    /// RESUMED beyond what the answering side knew itself.
    ResumedBeyondHead,
    Event,
    /// A standing record in its place in the log.
    StandingInPlace,
    /// Standing records that were told anew after a gap in mid-stream.
    StandingAfterGap,
    Ephemeral,
    Standing,
    Progress,
    CaughtUp,
    FellBehind,
    Goodbye,
    Subscribed,
    /// A gap after which the stream goes on in another epoch.
    EpochChangedInStream,
    GapTrimmed,
    GapEpochChanged,
    GapAhead,
    GapLapped,
    GapUpstream,
    GapTooLarge,
    GapCollapsed,
    GapDamaged,
    GapCursorUnreadable,
    /// A stream ended because a newer one took over.
    Replaced,
    /// A late duplicate of a subscription was refused, or ended quietly.
    StaleAttempt,
    /// A subscription was put off.
    HeldOff,
    Drained,
    SlowClosed,
    SessionEnded,
    Acked,
    Nacked,
    /// An acknowledgement that says the hub had it already.
    DedupHit,
    /// A publish without an answer whose event is in the log.
    UnknownLanded,
    /// A publish without an answer whose event is not in the log.
    UnknownLost,
    Granted,
    Ungranted,
    Crash,
    Fault,
    /// A gateway left a log for another one.
    AnotherLog,
    Handled,
    /// The handler finished an item again after a crash of its process.
    HandledAgainAfterCrash,
    /// After a crash an item was finished again, as D allows.
    RepeatedWithinD,
    /// One call of a handler finished several items.
    BatchHandled,
    /// An item was acked while one before it was not.
    AckedOutOfOrder,
    /// An item was given up, and its dead letter taken.
    DeadLetter,
    StoreWriteFailed,
    /// A frame of a kind that nobody knows, or with a word that nobody knows, was met.
    UnknownFrameMet,
    /// A user got events at all.
    UserEvent,
    /// The history was long enough to judge whether everybody reached the head.
    LiveJudged,
    /// A gap to a user of which it was judged whether its gateway still held what it tells, by its reason.
    UserTrimmedJudged,
    UserLappedJudged,
    UserUpstreamJudged,
    UserEpochJudged,
    /// A LAPPED gap to a live user, of which it was judged whether anything in it concerned that user.
    QuietJudged,
    /// The count of a gap was judged: it was there, or had to be absent.
    CountJudged,
    /// A user's outcome was judged by what its gateway and its hub could know.
    UserOutcomeJudged,
    /// Ends of users' streams: a cursor that is none (4400, HTTP 400),
    EndedBadRequest,
    /// a token that ended or was void (4401, HTTP 401, `SESSION_ENDED`),
    EndedSignedOut,
    /// a gateway that left (1012, `DRAINING`),
    EndedDraining,
    /// a gateway that could not serve it yet (1013, HTTP 503, a goodbye alone),
    EndedLater,
    /// a user that was too slow (1013, `SLOW`),
    EndedSlow,
    /// a connection that was gone without a word.
    EndedUntold,
    /// A reader that had heard nothing for the whole interval was told in time where it stands.
    SilenceJudged,
    /// A reader was passed over for an eighth of the window's events, and told in time.
    EighthOfEventsJudged,
    /// The same of its bytes.
    EighthOfBytesJudged,
    /// The same of its age.
    EighthOfAgeJudged,
    /// An event was due at a reader at once, and was there.
    PromptJudged,
    /// The same at a user.
    PromptAtUserJudged,
    /// A reader was told that it fell behind, and it was asked whether it had.
    BehindJudged,
    /// What was handed to a reader that had not read for long came after it was told.
    BehindAfterAPauseJudged,
    /// A connection was over once its token had ended.
    TokenEndJudged,
    /// A connection was over once a record had ended its session.
    RecordEndJudged,
    /// The goodbyes of a leaving hub were far enough apart to be told apart.
    ReturnsJudged,
    /// Several users of a leaving gateway were told when to come back.
    UserReturnsJudged,
    /// Several readers of one server were told when to repair.
    RepairsJudged,
}

impl fmt::Display for Sight {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, f)
    }
}
