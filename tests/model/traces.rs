//! Traces: what a run of the program may show of a delivery, and what it may never show.

use postcall::domain::delivery::State::{Delivered, Failed, Rejected, Sending, Unknown, Waiting};

use crate::protocol::trace::Seen::{
    Claimed, Evidence, Found, GivenUp, Inserted, Killed, Paused, Recorded, Replayed, Requested,
};
use crate::protocol::trace::Trace;

#[test]
fn what_a_run_can_show_is_accepted() {
    let accepted = [
        Trace::in_order(&[], Waiting),
        Trace::in_order(&[Claimed], Sending),
        Trace::in_order(&[Claimed, Requested, Recorded(Delivered)], Delivered),
        Trace::in_order(&[Claimed, Requested, Recorded(Rejected)], Rejected),
        Trace::in_order(&[Claimed, Recorded(Failed)], Failed),
        Trace::in_order(&[Claimed, Requested, Recorded(Unknown)], Unknown),
        Trace::in_order(&[Claimed, Recorded(Unknown)], Unknown),
        Trace::in_order(&[Claimed, GivenUp], Unknown),
        Trace::in_order(&[Claimed, Requested, GivenUp], Unknown),
        Trace::in_order(&[Claimed, Requested, GivenUp, Evidence(Delivered)], Delivered),
        Trace::in_order(&[Claimed, GivenUp, Evidence(Failed)], Failed),
        Trace::in_order(&[Claimed, Requested, GivenUp, Found(Delivered), Evidence(Delivered)], Delivered),
        Trace::in_order(&[Inserted], Waiting),
        Trace::in_order(&[Inserted, Claimed, Requested, Recorded(Delivered)], Delivered),
        // Killed before and after the request, and stopped, with a late result.
        Trace::in_order(&[Inserted, Claimed, Killed, GivenUp], Unknown),
        Trace::in_order(&[Inserted, Claimed, Requested, Killed, GivenUp], Unknown),
        Trace::in_order(&[Inserted, Claimed, Killed], Sending),
        Trace::in_order(&[Inserted, Claimed, Requested, Paused, GivenUp, Evidence(Delivered)], Delivered),
        Trace::in_order(&[Inserted, Claimed, Paused, GivenUp, Evidence(Failed)], Failed),
        // Killed while its claim was committed.
        Trace {
            before: vec![(0, 1), (1, 3), (2, 3)],
            ..Trace::in_order(&[Inserted, Claimed, Killed, GivenUp], Unknown)
        },
        // Replayed, and so requested once more at most.
        Trace::in_order(&[Inserted, Claimed, Requested, Recorded(Rejected), Replayed, Requested], Rejected),
        Trace::in_order(&[Inserted, Claimed, Requested, Killed, GivenUp, Replayed, Requested], Unknown),
        Trace::in_order(&[Inserted, Claimed, Requested, Killed, GivenUp, Replayed], Unknown),
        // The order of the request and of what was recorded is not known.
        Trace { before: vec![(0, 1)], ..Trace::in_order(&[Claimed, Recorded(Delivered), Requested], Delivered) },
    ];
    for trace in accepted {
        assert!(trace.is_accepted(), "{trace:?}");
    }
}

#[test]
fn a_forged_trace_is_refused() {
    let refused = [
        // Requested twice, before its claim, without a claim, after it had been given up or recorded.
        Trace::in_order(&[Claimed, Requested, Requested, Recorded(Delivered)], Delivered),
        Trace { before: vec![], ..Trace::in_order(&[Claimed, Requested, Requested, GivenUp], Unknown) },
        Trace::in_order(&[Requested, Claimed, Recorded(Delivered)], Delivered),
        Trace::in_order(&[Requested], Waiting),
        Trace::in_order(&[Claimed, GivenUp, Requested], Unknown),
        Trace::in_order(&[Claimed, Recorded(Delivered), Requested], Delivered),
        // Shown as what it was not.
        Trace::in_order(&[Claimed, Recorded(Delivered)], Delivered),
        Trace::in_order(&[Claimed, Requested, Recorded(Failed)], Failed),
        Trace::in_order(&[Claimed, Requested, Recorded(Delivered)], Rejected),
        Trace::in_order(&[Claimed, Requested, GivenUp], Delivered),
        Trace::in_order(&[Claimed, Requested, GivenUp], Waiting),
        // Evidence of what never happened, or of what was no doubt.
        Trace::in_order(&[Claimed, GivenUp, Evidence(Delivered)], Delivered),
        Trace::in_order(&[Claimed, Requested, GivenUp, Evidence(Failed)], Failed),
        Trace::in_order(&[Claimed, Requested, Recorded(Delivered), Evidence(Delivered)], Delivered),
        // Claimed before it was inserted, or inserted twice.
        Trace::in_order(&[Claimed, Inserted, Requested, Recorded(Delivered)], Delivered),
        Trace::in_order(&[Inserted, Inserted, Claimed, Requested, Recorded(Delivered)], Delivered),
        // Whoever is killed sends nothing, records nothing, and learns nothing.
        Trace::in_order(&[Inserted, Claimed, Killed, Requested, GivenUp], Unknown),
        Trace::in_order(&[Inserted, Claimed, Requested, Killed, Recorded(Delivered)], Delivered),
        Trace::in_order(&[Inserted, Claimed, Requested, Killed, GivenUp, Evidence(Delivered)], Delivered),
        // A kill of whoever does not hold it is none of its trace; and nobody is killed twice.
        Trace::in_order(&[Killed, Inserted], Waiting),
        Trace::in_order(&[Inserted, Claimed, Requested, Killed, Killed, GivenUp], Unknown),
        // Whoever is stopped past its lease begins nothing afterwards.
        Trace::in_order(&[Inserted, Claimed, Paused, GivenUp, Requested], Unknown),
        // Requested once more without a replay, twice more with one, or replayed twice or too early.
        Trace::in_order(&[Inserted, Claimed, Requested, Killed, GivenUp, Requested], Unknown),
        Trace::in_order(&[Inserted, Claimed, Requested, Recorded(Rejected), Replayed, Requested, Requested], Rejected),
        Trace::in_order(&[Inserted, Claimed, Requested, Recorded(Rejected), Replayed, Replayed], Rejected),
        Trace::in_order(&[Inserted, Claimed, Requested, Replayed, Recorded(Rejected)], Rejected),
        Trace::in_order(&[Inserted, Replayed, Claimed, Requested, Recorded(Rejected)], Rejected),
        // Recorded twice, or without a claim.
        Trace::in_order(&[Claimed, Requested, GivenUp, Recorded(Delivered)], Delivered),
        Trace::in_order(&[Recorded(Failed)], Failed),
    ];
    for trace in refused {
        assert!(!trace.is_accepted(), "{trace:?}");
    }
}
