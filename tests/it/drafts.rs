//! Drafts of actions: what one would send for a chosen call, and the variables that are known for its agent. Nothing is sent or
//! written, and nobody reads a call who may not.

use postcall::domain::documented::SAMPLE;
use postcall::service::chosen_call::{ChosenCall, NoCall};
use postcall::service::draft::{NoDraftRequest, draft_request};
use postcall::service::variables::{MOST_CALLS, variables};
use postcall::store::Store;
use serde_json::json;

use crate::support::database::Database;
use crate::support::endings::end_all;

fn draft() -> String {
    json!({"method": "POST", "url": "https://a.example/", "body": "[${outcome}, ${context.nothing}]"}).to_string()
}

/// A store for somebody with these roles.
async fn with_roles(database: &Database, roles: &[&str]) -> Store {
    Store::connect(&database.login(roles).await, 1).await.unwrap()
}

#[tokio::test]
async fn a_draft_shows_its_exact_request_for_the_sample_and_for_a_past_call_of_its_own_agent() {
    let database = Database::new().await;
    let own = ChosenCall::Past(database.insert_call("a", &json!({"outcome": "won"})).await);
    let foreign = ChosenCall::Past(database.insert_call("b", &json!({"outcome": "lost"})).await);
    let reader = with_roles(&database, &["postcall_publisher", "postcall_dispatcher"]).await;
    let text = draft();
    for (call, body) in [(ChosenCall::Sample, "[\"qualified_lead\", null]"), (own.clone(), "[\"won\", null]")] {
        let shown = draft_request(&reader, "a", text.as_str().into(), &call).await.unwrap();
        assert_eq!(shown.request.body.as_deref(), Some(body));
        assert_eq!(shown.unresolved.iter().map(|one| one.path.as_str()).collect::<Vec<_>>(), ["context.nothing"]);
        assert_eq!(shown.unresolved[0].places.len(), 1);
    }
    let refused = draft_request(&reader, "a", text.as_str().into(), &foreign).await.unwrap_err();
    assert!(matches!(refused, NoDraftRequest::NoCall(NoCall::OfAnotherAgent(_))), "{refused:?}");
    let publisher = with_roles(&database, &["postcall_publisher"]).await;
    let refused = draft_request(&publisher, "a", text.as_str().into(), &own).await.unwrap_err();
    assert!(matches!(refused, NoDraftRequest::NoCall(NoCall::Forbidden)), "{refused:?}");
    let wrong = draft_request(&publisher, "a", "{\"method\": \"POST\"}".into(), &ChosenCall::Sample).await.unwrap_err();
    assert!(matches!(&wrong, NoDraftRequest::Wrong(remarks) if !remarks.is_empty()), "{wrong:?}");
    let written = "SELECT (SELECT count(*) FROM postcall.action) + (SELECT count(*) FROM postcall.action_test)";
    assert_eq!(database.number(written).await, 0);
}

#[tokio::test]
async fn the_variables_of_an_agent_are_the_documented_ones_and_the_names_in_its_latest_calls_and_no_value() {
    let database = Database::new().await;
    let reader = with_roles(&database, &["postcall_publisher", "postcall_dispatcher"]).await;
    database.insert_call("a", &json!({"context": {"early": "SECRET"}})).await;
    database.insert_call("b", &json!({"context": {"foreign": 1}})).await;
    // As long as the agent has no history, and then by its history.
    let known = variables(&reader, "a").await.unwrap();
    assert_eq!((known.seen.as_slice(), known.calls), (&["context.early".to_owned()][..], 1));
    assert!(known.documented.contains(&"callInfo.from".to_owned()));
    database.publish("a", "default", &json!({"method": "POST", "url": "https://a.example/"})).await;
    for number in 0..=MOST_CALLS {
        database.insert_call("a", &json!({"context": {format!("n{number}"): "SECRET"}, "outcome": "SECRET"})).await;
    }
    end_all(&database, "failed").await;
    let known = variables(&reader, "a").await.unwrap();
    assert_eq!((known.calls, known.seen.len()), (MOST_CALLS, MOST_CALLS));
    assert!(known.seen.contains(&format!("context.n{MOST_CALLS}")) && !known.seen.contains(&"context.n0".to_owned()));
    assert!(!serde_json::to_string(&known).unwrap().contains("SECRET"));
    let publisher = with_roles(&database, &["postcall_publisher"]).await;
    let withheld = variables(&publisher, "a").await.unwrap();
    assert!(withheld.withheld && withheld.seen.is_empty() && !withheld.documented.is_empty());
}

#[test]
fn the_documents_show_the_sample_call_to_the_letter() {
    let document = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/actions.md")).unwrap();
    assert!(document.contains(&format!("```json\n{SAMPLE}```")), "docs/actions.md shows another sample");
}
