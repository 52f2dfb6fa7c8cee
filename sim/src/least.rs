//! What three hundred seeds must have met, and how often: a promise about something that hardly ever happened was not tested.

use std::collections::BTreeMap;

use anyhow::ensure;

/// Unless there is a reason, each was met so often.
const LEAST: u64 = 20;

/// From so many seeds on everything must have been met as often as is said here; from a third of that on, what is met most.
const SEEDS: u64 = 300;

/// What is met, with how often at least: `(name, least)`, by the name under which it is counted. Left out is COLLAPSED, a reason of gaps
/// that is not built.
const MUST: &[(&str, u64)] = &[
    // Features of worlds, by how many had them.
    ("WorldUsersHop", LEAST),
    ("WorldGatewaysJustBegun", LEAST),
    ("WorldUsersPause", LEAST),
    ("WorldUsersDrag", LEAST),
    ("WorldPages", LEAST),
    ("WorldDrainsOverlap", LEAST),
    ("WorldBursts", LEAST),
    ("WorldClocksWrong", LEAST),
    ("WorldClocksStepOften", LEAST),
    ("WorldHubsApart", LEAST),
    ("WorldHubsShared", LEAST),
    ("WorldLogsReturn", LEAST),
    ("WorldLogsChangeQuickly", 10), // a part of the worlds whose hubs have a log each, and not of those where logs return
    ("WorldDisk", LEAST),
    ("WorldBrokers", LEAST),
    ("WorldDuel", LEAST),
    ("WorldTokens", LEAST),
    ("WorldUserSteady", LEAST),
    ("WorldRegrants", LEAST),
    ("WorldHubAgeTiny", LEAST),
    ("WorldHubEventsTiny", LEAST),
    ("WorldHubBytesTiny", LEAST),
    ("WorldEdgeAgeTiny", LEAST),
    ("WorldEdgeEventsTiny", LEAST),
    ("WorldEdgeBytesTiny", LEAST),
    ("WorldEdgeSmallerThanHub", LEAST),
    ("WorldEdgeLargerThanHub", LEAST),
    // Kinds of fault.
    ("kill", LEAST),
    ("leave", LEAST),
    ("partition", LEAST),
    ("one-way", LEAST),
    ("hold", LEAST),
    ("slow-link", LEAST),
    ("unplug", LEAST),
    ("cut-off", LEAST),
    ("rival", LEAST),
    ("power-cut", LEAST),
    ("disk-full", LEAST),
    ("sync-fails", LEAST),
    ("damage", LEAST),
    ("step-down", LEAST),
    ("cut-leader", LEAST),
    ("lose-acks", LEAST),
    ("disconnect", LEAST),
    ("stop-consumer", LEAST),
    // Outcomes.
    ("Resumed", LEAST),
    ("Fresh", LEAST),
    ("Trimmed", LEAST),
    ("EpochChanged", LEAST),
    ("Ahead", LEAST),
    ("ForeignPresented", LEAST),
    ("GarbageRefused", LEAST),
    ("GarbageTold", LEAST),
    ("ResumedWithReplay", LEAST),
    ("ResumedAtHead", LEAST),
    ("ResumedAtOldest", LEAST),
    ("ResumedBeyondHead", LEAST),
    // Frames.
    ("Event", LEAST),
    ("UserEvent", LEAST),
    ("Ephemeral", LEAST),
    ("Standing", LEAST),
    ("StandingInPlace", LEAST),
    ("StandingAfterGap", LEAST),
    ("Progress", LEAST),
    ("CaughtUp", LEAST),
    ("FellBehind", LEAST),
    ("Goodbye", LEAST),
    ("Subscribed", LEAST),
    ("Ungranted", LEAST),
    // Reasons of gaps.
    ("EpochChangedInStream", LEAST),
    ("GapTrimmed", LEAST),
    ("GapEpochChanged", LEAST),
    ("GapAhead", LEAST),
    ("GapLapped", LEAST),
    ("GapUpstream", LEAST),
    ("GapTooLarge", LEAST),
    ("GapDamaged", LEAST),
    ("GapCursorUnreadable", LEAST),
    // How streams end.
    ("Replaced", LEAST),
    ("StaleAttempt", LEAST),
    ("HeldOff", LEAST),
    ("Drained", LEAST),
    ("SlowClosed", 0), // whoever is too slow mostly takes no goodbye either, and sees the code or a reset
    ("SessionEnded", LEAST),
    ("UserEnded: 1012", LEAST),
    ("UserEnded: 1013", LEAST),
    ("UserEnded: 4400", LEAST),
    ("UserEnded: 4401", LEAST),
    ("UserEnded: http 400", LEAST),
    ("UserEnded: http 401", LEAST),
    ("UserEnded: http 503", LEAST),
    ("UserEnded: cut", LEAST),
    ("UserEnded: end", LEAST),
    ("UserEnded: reset", LEAST),
    ("UserEnded: silence", LEAST),
    ("UserEnded: unreachable: ConnectionRefused", LEAST),
    // Publishers, and readers beside users.
    ("Acked", LEAST),
    ("Nacked", LEAST),
    ("DedupHit", LEAST),
    ("UnknownLanded", LEAST),
    ("UnknownLost", LEAST),
    ("Crash", LEAST),
    ("Fault", LEAST),
    ("AnotherLog", LEAST),
    ("Handled", LEAST),
    ("HandledAgainAfterCrash", LEAST),
    ("LiveJudged", LEAST),
    // Handlers.
    ("BatchHandled", LEAST),
    ("AckedOutOfOrder", LEAST),
    ("DeadLetter", LEAST),
    ("StoreWriteFailed", LEAST),
    ("UnknownFrameMet", LEAST),
    ("RepeatedWithinD", LEAST),
    // What users were judged by.
    ("UserTrimmedJudged", LEAST),
    ("UserLappedJudged", LEAST),
    ("UserUpstreamJudged", LEAST),
    ("UserEpochJudged", LEAST),
    ("QuietJudged", LEAST),
    ("CountJudged", LEAST),
    ("UserOutcomeJudged", LEAST),
    ("EndedBadRequest", LEAST),
    ("EndedSignedOut", LEAST),
    ("EndedDraining", LEAST),
    ("EndedLater", LEAST),
    ("EndedUntold", LEAST),
    // What was judged of time.
    ("SilenceJudged", LEAST),
    ("EighthOfEventsJudged", LEAST),
    ("EighthOfBytesJudged", LEAST),
    ("EighthOfAgeJudged", 10), // only where a quiet gateway reads a window of seconds
    ("PromptJudged", LEAST),
    ("PromptAtUserJudged", LEAST),
    ("BehindJudged", LEAST),
    ("BehindAfterAPauseJudged", LEAST),
    ("TokenEndJudged", LEAST),
    ("RecordEndJudged", LEAST),
    ("ReturnsJudged", 10), // a hub leaves in some worlds, and several gateways that were live must have been told
    ("UserReturnsJudged", LEAST),
    ("RepairsJudged", LEAST),
    // Brokers.
    ("BrokersLeaderLost", LEAST),
    ("BrokersLostWithLeader", LEAST),
    ("BrokersAckLost", LEAST),
    ("BrokersNoResponders", LEAST),
    ("BrokersStaleEnd", 10), // a leader that lags must be asked in the moment in which it does
    ("BrokersStray", LEAST),
    // Each of those with ten is one of several that a broken connection or a stream that keeps little may come to.
    ("BrokersSentTwice", 10),
    ("BrokersOvertaken", 10),
    ("BrokersSaidBefore", LEAST),
    ("BrokersHole", 10),
    ("BrokersLossTold", LEAST),
    ("BrokersLateStart", LEAST),
    ("BrokersHubStale", LEAST),
    ("BrokersAsked", LEAST),
    // What publishers did on other surfaces, and said of records.
    ("PublishersBatched", LEAST),
    ("PublishersExplicitIssuedBefore", LEAST),
    ("PublishersRecordSaidTwice", LEAST),
    ("PublishersRefused", LEAST),
    ("PublishersRepublished", LEAST),
    ("PublishersSaidAgainAfterNewer", LEAST),
    ("PublishersSameIdOfTwoSources", LEAST),
    ("PublishersStream", LEAST),
    ("PublishersStructured", LEAST),
    ("PublishersUnary", LEAST),
    ("PublishersWildcardMembership", LEAST),
];

/// Demands that so many seeds have met what they must. `counts` says how often something was met.
///
/// # Errors
///
/// When something was met too rarely; the error names all that was.
pub(crate) fn require(seeds: u64, counts: &[&BTreeMap<String, u64>]) -> anyhow::Result<()> {
    let times = |name: &str| counts.iter().filter_map(|counts| counts.get(name)).sum::<u64>();
    let rare = MUST.iter().filter(|(name, least)| seeds >= SEEDS && times(name) < *least);
    let rare: Vec<_> = rare.map(|(name, least)| format!("{name} {} of {least}", times(name))).collect();
    ensure!(rare.is_empty(), "{SEEDS} seeds must meet these more often: {}", rare.join(", "));
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use galaxy_push_sim::scenario::Scenario;
    use galaxy_push_sim::tally;

    use super::*;

    #[test]
    fn three_hundred_seeds_draw_every_feature_and_every_fault_often_enough() {
        let mut drawn = BTreeMap::new();
        for seed in 1..=SEEDS {
            let scenario = Scenario::draw(seed, Duration::from_secs(60));
            let features =
                scenario.features().into_iter().map(|(name, has)| (name.to_owned(), u64::from(has)));
            for (name, count) in features.chain(tally::faults(&scenario)) {
                *drawn.entry(name).or_insert(0) += count;
            }
        }
        let least = |name: &str| MUST.iter().find(|(must, _)| *must == name).map(|(_, least)| *least);
        let rare: Vec<_> =
            drawn.iter().filter(|(name, count)| least(name).is_none_or(|least| **count < least)).collect();
        assert!(rare.is_empty(), "drawn too rarely, or not demanded: {rare:?}");
    }

    #[test]
    fn what_was_met_too_rarely_is_named() {
        let all =
            |times| MUST.iter().map(|(name, _)| ((*name).to_owned(), times)).collect::<BTreeMap<_, _>>();
        assert!(require(SEEDS, &[&all(LEAST)]).is_ok());
        assert!(require(SEEDS - 1, &[]).is_ok(), "fewer seeds need not meet everything");
        let (mut some, faults) = (all(LEAST), BTreeMap::from([("hold".to_owned(), LEAST)]));
        some.remove("hold");
        some.insert("Ahead".to_owned(), 19);
        assert!(require(SEEDS, &[&some]).unwrap_err().to_string().ends_with("hold 0 of 20, Ahead 19 of 20"));
        some.insert("Ahead".to_owned(), 20);
        assert!(require(SEEDS, &[&faults, &some]).is_ok(), "faults are counted apart");
    }
}
