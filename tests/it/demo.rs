//! The demo shows what it says, on an empty database.

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
