//! The demo shows what it says, on an empty database, and with `--keep` what docs/ tell can be clicked through on its console.

use crate::support::console::Console;
use crate::support::database::Database;
use crate::support::process::{postcall_on, stderr, stdout};

#[tokio::test]
async fn the_demo_books_each_call_that_it_commits_and_sends_none_twice() {
    let database = Database::empty().await;
    let output = postcall_on(&database, &["--log", "error", "demo"]);
    assert!(output.status.success(), "{}", stderr(&output));
    let said = stdout(&output);
    let (booked, committed) = ("SELECT count(*) FROM public.call_ledger", "SELECT count(*) FROM postcall.outbox");
    assert_eq!(database.number(booked).await, database.number(committed).await);
    assert!(said.contains(&format!("{} calls committed", database.number(committed).await)), "{said}");
    assert_eq!(database.number("SELECT count(*) FROM public.call_ledger WHERE minutes <= 0").await, 0);
    assert!(said.contains("; 0 of them twice"), "{said}");
    // What it says of each state is so; nothing is open when it ends.
    let states = "SELECT string_agg(format('%s %s', rpad(state, 10), n), E'\\n')
                  FROM (SELECT state, count(*) AS n FROM postcall.delivery_history GROUP BY state) AS states";
    for line in database.text(states).await.unwrap().lines() {
        assert!(said.lines().any(|said| said == line), "{line} in:\n{said}");
    }
    assert_eq!(database.number("SELECT count(*) FROM postcall.waiting").await, 0);
    assert_eq!(database.number("SELECT count(*) FROM postcall.sending").await, 0);
}

#[tokio::test]
async fn everything_can_be_tried_out_on_the_console_of_the_demo_which_only_this_machine_reaches() {
    let database = Database::new().await;
    let console = Console::of_demo(&database.url).await;
    assert!(console.address().ip().is_loopback(), "{}", console.address());
    let without = console.page("/calls?without=1").await.words();
    for words in ["agent_off", "agent_7f3kk2", "agent_7f3k2?"] {
        assert!(without.contains(words), "no {words}, a call without a delivery, in {without}");
    }
    for state in ["delivered", "rejected", "failed", "unknown", "skipped"] {
        let found = console.page(&format!("/deliveries?state={state}")).await;
        assert!(found.body.contains("href=\"/deliveries/0"), "{state}: {}", found.words());
    }
    for form in [
        "/change/action?agent=agent_7f3k2&name=default",
        "/change/test?agent=agent_7f3k2&name=default",
        "/change/replay-many?state=failed",
        "/change/resolve-many?state=unknown",
    ] {
        assert!(console.page(form).await.body.contains("<form method=\"post\""), "{form}");
    }
    console.page("/versions?agent=agent_7f3k2&name=default").await;
    let reason = ("reason", "to try it out");
    let pause = [("order", "pause"), ("target", "agent"), ("agent", "agent_slow"), reason];
    console.done("", "/change/pause", &pause).await;
    let on = [("agent", "agent_off"), ("name", "default"), ("enabled", "yes"), reason];
    console.done("", "/change/enabled", &on).await;
    let query = ("query", "state=unknown");
    let until = ("until", "2999-01-01T00:00:00Z");
    console.done("", "/change/resolve-many", &[query, until, ("finding", "failed"), reason]).await;
    let by = "SELECT (SELECT string_agg(paused_by, '') FROM postcall.pause) || ', '
                  || (SELECT string_agg(DISTINCT resolved_by, '') FROM postcall.resolution WHERE source = 'person')";
    assert_eq!(database.text(by).await.as_deref(), Some("a visitor of the demo, a visitor of the demo"));
}
