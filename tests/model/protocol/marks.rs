//! Branches of the model that matter, to show that they are reached: a model that never comes to its races proves nothing.

use std::sync::atomic::{AtomicU64, Ordering};

/// A branch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mark {
    /// A revoked claim reaches the database, and takes nothing.
    RevokedClaimArrives,
    /// A claim of a lost dispatcher reaches the database, and takes nothing.
    ClaimOfALostDispatcherArrives,
    /// A claim that began before its dispatcher was declared lost commits afterwards.
    ClaimCommitsAfterTheLoss,
    /// A claim commits whose dispatcher was killed.
    ClaimOfTheDeadCommits,
    /// A claim passes over a row that another claim has locked.
    ClaimsMeet,
    /// A revocation puts deliveries back.
    RevocationReturns,
    /// A revocation that was repeated meanwhile reaches the database.
    LateRaise,
    /// A revocation finds that others gave up what its claim took, which was never sent.
    RevokedAfterGivenUp,
    /// The answer to a completion was lost, and its repetition finds it recorded.
    AlreadyRecorded,
    /// A result comes after its delivery was given up.
    NotHeld,
    /// Late evidence is recorded.
    Evidence,
    /// Evidence comes after a person's finding.
    EvidenceAfterFinding,
    /// Evidence comes after a replay.
    EvidenceAfterReplay,
    /// Evidence comes while a person is about to record a finding.
    EvidenceBeforeFinding,
    /// The answer to a release was lost; its repetition finds the delivery waiting or with another claim.
    ReleasedTwice,
    /// A delivery was given up before a byte of it was sent, and its dispatcher says so.
    UnsentAfterGivenUp,
    /// The send gate closes before a claimed delivery begins.
    GateClosesInTime,
    /// A lease that is over is renewed, because nobody has declared its dispatcher lost.
    RenewedAfterItsEnd,
    /// A dispatcher that was declared lost goes on under a new registration.
    BeginsAnew,
    /// What a stopped dispatcher left is given up.
    LeftByAStoppedOne,
    /// A claim runs when the server crashes.
    CrashEndsClaim,
    /// The answer of a committed claim is lost by a crash.
    CrashLosesAnswer,
    /// A person wants to judge a delivery about which another one is deciding, and waits.
    PersonWaits,
    /// A replay is made.
    Replayed,
    /// A replay of a replay is made.
    ReplayedAgain,
    /// A request begins for a host whose pause the dispatcher has not seen yet.
    SentBeforeThePauseIsSeen,
    /// A dispatcher that has seen a pause claims nothing, although something waits.
    HeldBack,
}

impl Mark {
    pub const ALL: [Mark; 27] = [
        Mark::RevokedClaimArrives,
        Mark::ClaimOfALostDispatcherArrives,
        Mark::ClaimCommitsAfterTheLoss,
        Mark::ClaimOfTheDeadCommits,
        Mark::ClaimsMeet,
        Mark::RevocationReturns,
        Mark::LateRaise,
        Mark::RevokedAfterGivenUp,
        Mark::AlreadyRecorded,
        Mark::NotHeld,
        Mark::Evidence,
        Mark::EvidenceAfterFinding,
        Mark::EvidenceAfterReplay,
        Mark::EvidenceBeforeFinding,
        Mark::ReleasedTwice,
        Mark::UnsentAfterGivenUp,
        Mark::GateClosesInTime,
        Mark::RenewedAfterItsEnd,
        Mark::BeginsAnew,
        Mark::LeftByAStoppedOne,
        Mark::CrashEndsClaim,
        Mark::CrashLosesAnswer,
        Mark::PersonWaits,
        Mark::Replayed,
        Mark::ReplayedAgain,
        Mark::SentBeforeThePauseIsSeen,
        Mark::HeldBack,
    ];
}

/// The branches that were reached.
#[derive(Debug, Default)]
pub struct Marks(AtomicU64);

impl Marks {
    pub fn reach(&self, mark: Mark) {
        self.0.fetch_or(1 << mark as u64, Ordering::Relaxed);
    }

    pub fn has(&self, mark: Mark) -> bool {
        self.0.load(Ordering::Relaxed) & (1 << mark as u64) != 0
    }
}
