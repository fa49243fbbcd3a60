//! States, error kinds, methods and the like are closed sets: what the program knows is what the database allows, and what
//! only one of the two knows is said and not guessed.

use std::collections::BTreeSet;

use postcall::domain::action::Method;
use postcall::domain::action_test::{CallSource, TestErrorKind, TestState};
use postcall::domain::delivery::{BodyEnd, Failure, Finding, ResolutionSource, State, UnknownReason};
use postcall::domain::error_kind::ErrorKind;
use postcall::domain::signature::Scheme;
use serde_json::json;

use crate::support::database::Database;
use crate::support::endings::ended;
use crate::support::inbox::Inbox;
use crate::support::process::{Dispatcher, postcall_on, stderr, stdout};

/// A list of names in a CHECK constraint: `table constraint column`, and the names.
type List = (String, BTreeSet<String>);

fn list<T: Copy>(place: &str, values: impl IntoIterator<Item = T>, name: fn(T) -> &'static str) -> List {
    (place.to_owned(), values.into_iter().map(|value| name(value).to_owned()).collect())
}

/// Every list of names that the schema has, as the program says that it ought to be.
fn known() -> BTreeSet<List> {
    let finals = State::ALL.into_iter().filter(|state| state.is_final());
    let answered = [State::Delivered, State::Rejected];
    let erroneous = ErrorKind::ALL.map(ErrorKind::state);
    let found = Finding::ALL.map(Finding::state);
    let test_ends = TestState::ALL.into_iter().filter(|state| *state != TestState::Sending);
    let test_answered = [TestState::Delivered, TestState::Rejected];
    let test_erroneous = TestErrorKind::ALL.map(TestErrorKind::state);
    // That a test is lost is recorded by nobody: it is what a test without a result is called.
    let test_errors = |of: TestState| {
        let recorded = TestErrorKind::ALL.into_iter().filter(|kind| *kind != TestErrorKind::Lost);
        recorded.filter(move |kind| kind.state() == of)
    };
    let (test_failures, test_doubts) = (test_errors(TestState::Failed), test_errors(TestState::Unknown));
    BTreeSet::from([
        list("action_test call_source_is_known call_source", CallSource::ALL, CallSource::as_str),
        list("action_test action_test_method_check method", Method::ALL, Method::as_str),
        list("action_test_result test_state_is_final state", test_ends, TestState::as_str),
        list("action_test_result a_tested_answer_is_delivered_or_rejected state", test_answered, TestState::as_str),
        list(
            "action_test_result a_failed_test_was_certainly_not_sent error_kind",
            test_failures,
            TestErrorKind::as_str,
        ),
        list("action_test_result an_unknown_test_was_perhaps_received error_kind", test_doubts, TestErrorKind::as_str),
        list("action_test_result only_a_test_without_an_answer_has_an_error state", test_erroneous, TestState::as_str),
        list("action_test_result a_tested_answer_has_a_body_end body_end", BodyEnd::ALL, BodyEnd::as_str),
        list("delivery state_is_final state", finals, State::as_str),
        list("delivery an_answer_means_delivered_or_rejected state", answered, State::as_str),
        list("delivery failed_means_certainly_unsent error_kind", Failure::ALL, Failure::as_str),
        list("delivery unknown_means_perhaps_received error_kind", UnknownReason::ALL, UnknownReason::as_str),
        list("delivery only_failed_and_unknown_have_an_error state", erroneous, State::as_str),
        list("delivery an_answer_has_a_body_end body_end", BodyEnd::ALL, BodyEnd::as_str),
        list("resolution resolution_source_check source", ResolutionSource::ALL, ResolutionSource::as_str),
        list("resolution resolution_state_check state", found, State::as_str),
        list("resolution a_late_answer_is_the_claim_s state", answered, State::as_str),
        list("resolution a_late_failure_means_certainly_unsent error_kind", Failure::ALL, Failure::as_str),
        list("resolution resolution_body_end_check body_end", BodyEnd::ALL, BodyEnd::as_str),
        list("action_version action_version_method_check method", Method::ALL, Method::as_str),
        list("signing_key signing_key_scheme_is_known scheme", Scheme::ALL, Scheme::as_str),
        // Triggers write them, and no part of the program decides by them but by `disabled`.
        list("signing_change signing_change_is_known change", ["enabled", "rotated", "disabled"], |name| name),
        list("secret_change secret_change_is_known change", ["set", "removed"], |name| name),
    ])
}

/// Every list of names in a CHECK constraint of the schema, partitions aside, whose constraints are those of their table.
async fn listed(database: &Database) -> BTreeSet<List> {
    let rows: Vec<(String, Vec<String>)> = sqlx::query_as(
        r"SELECT format('%s %s %s', relname, conname, list[1]),
                 ARRAY(SELECT (regexp_matches(list[2], '''([^'']*)''', 'g'))[1])
          FROM pg_constraint
          JOIN pg_class ON pg_class.oid = conrelid,
               regexp_matches(pg_get_constraintdef(pg_constraint.oid), '(\w+) = ANY \(ARRAY\[([^]]*)\]', 'g') AS list
          WHERE connamespace = 'postcall'::regnamespace AND contype = 'c' AND NOT relispartition",
    )
    .fetch_all(&database.pool)
    .await
    .unwrap();
    rows.into_iter().map(|(place, names)| (place, names.into_iter().collect())).collect()
}

#[tokio::test]
async fn each_list_of_names_in_a_constraint_is_that_of_the_program() {
    let listed = listed(&Database::new().await).await;
    let known = known();
    let unknown: Vec<_> = listed.difference(&known).collect();
    let missing: Vec<_> = known.difference(&listed).collect();
    assert!(unknown.is_empty() && missing.is_empty(), "only the schema: {unknown:?}\nonly the program: {missing:?}");
}

/// Columns that this release cannot read once a newer one has written to them, and what it says of each. Their constraints keep
/// other texts out as long as the owner leaves them there; none does so for `method`, which is therefore read as a text.
const WRITTEN_BY_A_NEWER_RELEASE: [(&str, &str, &str); 3] = [
    ("state", "state = 'shipped', error_kind = NULL", "state"),
    ("error_kind", "error_kind = 'shipped'", "error kind"),
    ("body_end", "body_end = 'shipped'", "end of a response body"),
];

/// A delivery that failed, as a newer release may have written it: its constraints are another's.
async fn written_by_a_newer_release(database: &Database, change: &str) -> String {
    for constraint in [
        "state_is_final",
        "failed_means_certainly_unsent",
        "only_failed_and_unknown_have_an_error",
        "an_answer_has_a_body_end",
    ] {
        database.execute(&format!("ALTER TABLE postcall.delivery DROP CONSTRAINT {constraint}")).await;
    }
    let id = ended(database, "failed", 1).await.remove(0);
    database.execute("ALTER TABLE postcall.delivery DISABLE TRIGGER history_is_immutable").await;
    database.execute(&format!("UPDATE postcall.delivery SET {change}")).await;
    id
}

#[tokio::test]
async fn a_name_that_only_a_newer_release_knows_is_an_error_that_says_where_it_stands_and_not_what_it_is() {
    for (column, change, what) in WRITTEN_BY_A_NEWER_RELEASE {
        let database = Database::new().await;
        database.publish("a", "default", &json!({"method": "POST", "url": "https://receiver.example/"})).await;
        let id = written_by_a_newer_release(&database, change).await;
        for arguments in [&["history"][..], &["history", "--format", "json"], &["show", &id]] {
            let output = postcall_on(&database, arguments);
            assert_eq!((output.status.code(), stdout(&output).as_str()), (Some(1), ""));
            let said = stderr(&output);
            assert!(said.contains(&format!("column {column}: ")), "{said}");
            assert!(said.contains(&format!("does not know this {what}; ")), "{said}");
            assert!(!said.contains("shipped"), "{said}");
        }
    }
}

#[tokio::test]
async fn a_name_that_only_a_newer_release_knows_holds_up_no_delivery() {
    let (database, inbox) = (Database::new().await, Inbox::open().await);
    database.publish("a", "default", &json!({"method": "POST", "url": inbox.url("/")})).await;
    written_by_a_newer_release(&database, "error_kind = 'shipped'").await;
    database.insert_call("a", &json!({})).await;
    let _dispatcher = Dispatcher::start(&database, &[]).await;
    inbox.has(1).await;
    database.until("SELECT count(*) = 1 FROM postcall.delivery WHERE state = 'delivered'").await;
}
