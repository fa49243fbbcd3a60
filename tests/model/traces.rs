//! Traces: what a run of the program may show of a delivery, and what it may never show.

use postcall::domain::delivery::State::{Delivered, Failed, Rejected, Sending, Unknown, Waiting};

use crate::protocol::trace::Seen::{Claimed, Evidence, Found, GivenUp, Recorded, Requested};
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
        // Recorded twice, or without a claim.
        Trace::in_order(&[Claimed, Requested, GivenUp, Recorded(Delivered)], Delivered),
        Trace::in_order(&[Recorded(Failed)], Failed),
    ];
    for trace in refused {
        assert!(!trace.is_accepted(), "{trace:?}");
    }
}
