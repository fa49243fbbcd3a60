//! Rows that the database refuses, cannot return, or holds in a state that postcall would never write. Such a row costs
//! something itself, but holds up no other row.

use nix::sys::signal::Signal;
use postcall::domain::claim::{ClaimToken, Texts};
use postcall::domain::kept;
use postcall::store::claim::{Claimant, Portion};
use serde_json::json;
use std::time::Duration;
use uuid::Uuid;

use crate::support::database::{Database, first_lane};
use crate::support::fleet::LEASE_MS;
use crate::support::inbox::Inbox;
use crate::support::process::{ALL_FOR_ONE, Dispatcher};
use crate::support::proxy::{Fate, Proxy};

const STATES: &str = "SELECT string_agg(state || ' ' || n, ', ' ORDER BY state)
                      FROM (SELECT state, count(*) AS n FROM postcall.delivery_history GROUP BY state) AS states";
/// A column of random text of so many characters, which no index or page compresses.
const RANDOM_TEXT: &str = "(SELECT left(string_agg(md5(random()::text), ''), 6000) FROM generate_series(1, 200))";

/// A database whose agent `a` sends its calls to the inbox.
async fn database_for(inbox: &Inbox) -> Database {
    let database = Database::new().await;
    database.publish("a", "default", &json!({"method": "POST", "url": inbox.url("/${kind}")})).await;
    database
}

/// History keeps the plain words of a template's path, and nothing of a call.
async fn publish_poison(database: &Database, inbox: &Inbox) {
    database.publish("poisoner", "default", &json!({"method": "POST", "url": inbox.url("/poison")})).await;
}

async fn insert_calls(database: &Database, calls: usize) {
    for _ in 0..calls {
        database.insert_call("a", &json!({"kind": "fine"})).await;
    }
}

/// What a dispatcher with this id would have left in flight; nobody of that id is registered.
async fn leave_behind(database: &Database, dispatcher_id: i32, deliveries: usize, sid: &str) {
    database
        .execute(&format!(
            "INSERT INTO postcall.sending (delivery_id, call_id, agent, action_id, action_version, created_at,
                                           dispatcher_id, claim, claimed_at, call_bytes, sid)
             SELECT postcall.uuid_v7(), postcall.uuid_v7(), 'a', 1, 1, now(), {dispatcher_id}, gen_random_uuid(), now(), 2, {sid}
             FROM generate_series(1, {deliveries})"
        ))
        .await;
}

async fn stopped_well(dispatcher: Dispatcher) {
    dispatcher.signal(Signal::SIGTERM);
    let (well, last) = dispatcher.ended().await;
    assert!(well, "{last}");
}

#[tokio::test]
async fn what_history_keeps_is_cut_by_one_rule_in_sql_and_rust_and_by_the_constraints() {
    let (database, inbox) = (Database::new().await, Inbox::open().await);
    let number = async |sql: &str| database.number(sql).await;
    let longest =
        "SELECT (regexp_match(pg_get_constraintdef(oid), '<= (\\d+)'))[1]::bigint FROM pg_constraint WHERE conname = ";
    let of_agents = number(&format!("{longest} 'agent_has_at_most_200_characters' LIMIT 1")).await;
    assert_eq!(of_agents, i64::from(kept::MAX_AGENT_CHARS));
    for constraint in ["delivery_error_detail_check", "resolution_detail_has_at_most_1024_bytes"] {
        let of_details = number(&format!("{longest} '{constraint}' LIMIT 1")).await;
        assert_eq!(usize::try_from(of_details).unwrap(), kept::MAX_DETAIL_BYTES, "{constraint}");
    }
    let of_sids = "SELECT char_length(postcall.call_sid(json_build_object('callInfo',
                       json_build_object('callSid', repeat('é', 1000)))))::bigint";
    assert_eq!(number(of_sids).await, i64::from(kept::MAX_CALL_SID_CHARS));

    // And what becomes of texts beyond all bounds that are in the queue already.
    let name = |n: usize| format!("\"{n}\": \"${{{}{n}}}\"", "long_name_".repeat(10));
    let body = (0..400).map(name).collect::<Vec<_>>().join(", ");
    let url = inbox.url(&"/u".repeat(5_000));
    database.publish("a", "default", &json!({"method": "POST", "url": url, "body": format!("{{{body}}}")})).await;
    database.insert_call("a", &json!({})).await;
    database.execute(&format!("UPDATE postcall.waiting SET agent = {RANDOM_TEXT}, call_sid = {RANDOM_TEXT}")).await;
    let dispatcher = Dispatcher::start(&database, &[]).await;
    database.settled().await;
    let lengths = "SELECT concat_ws(' ', state, char_length(agent), char_length(call_sid), octet_length(url),
                                    cardinality(unresolved) <= 33 AND octet_length(array_to_string(unresolved, '|')) <= 2048 + 128)
                   FROM postcall.delivery";
    let expected =
        format!("delivered {} {} {} t", kept::MAX_AGENT_CHARS, kept::MAX_CALL_SID_CHARS, kept::MAX_URL_BYTES);
    assert_eq!(database.text(lengths).await.unwrap(), expected);
    stopped_well(dispatcher).await;
}

#[tokio::test]
async fn an_outcome_that_history_refuses_is_recorded_without_its_texts_and_costs_its_batch_little() {
    let inbox = Inbox::holding().await;
    let database = database_for(&inbox).await;
    database
        .execute("ALTER TABLE postcall.delivery ADD CONSTRAINT an_operator_s CHECK (url NOT LIKE '%poison%')")
        .await;
    insert_calls(&database, 30).await;
    publish_poison(&database, &inbox).await;
    database.insert_call("poisoner", &json!({"callInfo": {"callSid": "CA1"}})).await;
    insert_calls(&database, 33).await;
    let proxy = Proxy::to_server_of(&database.url).await;
    let dispatcher = Dispatcher::start_at(&proxy.url_of(&database.url), &ALL_FOR_ONE).await;
    inbox.has(64).await;
    // Recording is stopped until all results are there, so that they are one batch.
    let mut lock = database.pool.begin().await.unwrap();
    sqlx::query("LOCK TABLE postcall.delivery IN ACCESS EXCLUSIVE MODE").execute(&mut *lock).await.unwrap();
    let (statements, counted) = std::sync::mpsc::channel();
    proxy.judge(move |sql| {
        if sql.contains("WITH done AS") {
            statements.send(()).ok();
        }
        Fate::Pass
    });
    inbox.answer(64);
    tokio::task::yield_now().await;
    lock.rollback().await.unwrap();
    database.settled().await;
    assert_eq!(database.text(STATES).await.unwrap(), "delivered 64");
    let story =
        "SELECT concat_ws(' ', method, url, response_code, call_sid, latency_ms IS NOT NULL) FROM postcall.delivery
                 WHERE url = '(not kept)'";
    assert_eq!(database.text(story).await.unwrap(), "POST (not kept) 200 t");
    stopped_well(dispatcher).await;
    let statements = counted.try_iter().count();
    assert!(statements < 40, "{statements} statements for 64 results");
}

#[tokio::test]
async fn what_a_trigger_of_an_operator_refuses_holds_up_nobody() {
    let inbox = Inbox::open().await;
    let database = database_for(&inbox).await;
    database.publish("bad", "default", &json!({"method": "POST", "url": inbox.url("/")})).await;
    database
        .execute(
            "CREATE FUNCTION public.refuse_bad() RETURNS trigger LANGUAGE plpgsql AS
             $$ BEGIN IF NEW.agent = 'bad' THEN RAISE EXCEPTION 'not this one'; END IF; RETURN NEW; END $$;
             CREATE TRIGGER of_an_operator BEFORE INSERT ON postcall.delivery
                 FOR EACH ROW EXECUTE FUNCTION public.refuse_bad()",
        )
        .await;
    database.insert_call("bad", &json!({})).await;
    insert_calls(&database, 20).await;
    let _dispatcher = Dispatcher::start(&database, &[]).await;
    database.until("SELECT count(*) = 20 FROM postcall.delivery").await;
    assert_eq!(database.text(STATES).await.unwrap(), "delivered 20, sending 1");
}

#[tokio::test]
async fn a_delivery_that_cannot_be_claimed_is_passed_over_and_holds_up_nobody() {
    let inbox = Inbox::open().await;
    let database = database_for(&inbox).await;
    database.publish("bad", "default", &json!({"method": "POST", "url": inbox.url("/")})).await;
    database.execute("ALTER TABLE postcall.sending ADD CONSTRAINT an_operator_s CHECK (agent <> 'bad')").await;
    for _ in 0..2 {
        insert_calls(&database, 3).await;
        database.insert_call("bad", &json!({})).await;
    }
    insert_calls(&database, 10).await;
    let _dispatcher = Dispatcher::start(&database, &[]).await;
    database.until("SELECT count(*) = 16 FROM postcall.delivery").await;
    assert_eq!(database.text(STATES).await.unwrap(), "delivered 16, waiting 2");
}

#[tokio::test]
async fn however_many_rows_history_refuses_those_behind_them_are_given_up() {
    let inbox = Inbox::open().await;
    let database = database_for(&inbox).await;
    database.execute("ALTER TABLE postcall.delivery ADD CONSTRAINT an_operator_s CHECK (agent <> 'bad')").await;
    leave_behind(&database, 424_242, 250, "NULL").await;
    database.execute("UPDATE postcall.sending SET agent = 'bad'").await;
    leave_behind(&database, 424_242, 10, "NULL").await;
    let _dispatcher = Dispatcher::start(&database, &[]).await;
    database.until("SELECT count(*) = 10 FROM postcall.delivery").await;
    assert_eq!(database.text(STATES).await.unwrap(), "sending 250, unknown 10");
}

#[tokio::test]
async fn an_outcome_that_is_refused_even_so_stays_in_flight_takes_nobody_s_place_and_is_given_up_once_it_can_be() {
    let inbox = Inbox::open().await;
    let database = database_for(&inbox).await;
    let poison = database.insert_call("a", &json!({"kind": "fine"})).await;
    database
        .execute(&format!("ALTER TABLE postcall.delivery ADD CONSTRAINT an_operator_s CHECK (call_id <> '{poison}')"))
        .await;
    insert_calls(&database, 20).await;
    let lease = LEASE_MS.to_string();
    let mut dispatcher = Dispatcher::start(&database, &["--concurrency", "1", "--lease-ms", &lease]).await;
    let said = dispatcher.says("the database refuses to record this outcome").await;
    let id = database.text("SELECT delivery_id::text FROM postcall.sending").await;
    assert!(id.is_none_or(|id| said.contains(&id)), "{said}");
    let others = "SELECT count(*) = 20 FROM postcall.delivery WHERE state = 'delivered'";
    database.until(others).await;
    assert_eq!(database.text(STATES).await.unwrap(), "delivered 20, sending 1");
    dispatcher.signal(Signal::SIGTERM);
    assert!(!dispatcher.ended().await.0, "a result was lost");

    // The next one cannot give it up either. It says so, and looks after the others all the same.
    let mut heir = Dispatcher::start(&database, &["--lease-ms", &lease]).await;
    heir.says("history refuses a delivery that a lost dispatcher left behind").await;
    leave_behind(&database, 424_242, 250, "'CA'").await;
    database.until("SELECT count(*) = 250 FROM postcall.delivery WHERE error_kind = 'dispatcher_lost'").await;
    let victim = Dispatcher::start(&database, &["--lease-ms", &lease]).await;
    let id = victim.id();
    victim.signal(Signal::SIGKILL);
    victim.ended().await;
    database.until(&format!("SELECT lost_at IS NOT NULL FROM postcall.dispatcher WHERE dispatcher_id = {id}")).await;
    stopped_well(heir).await;

    database.execute("ALTER TABLE postcall.delivery DROP CONSTRAINT an_operator_s").await;
    let last = Dispatcher::start(&database, &["--lease-ms", &lease]).await;
    database.settled().await;
    assert_eq!(database.text(STATES).await.unwrap(), "delivered 20, unknown 251");
    stopped_well(last).await;
}

#[tokio::test]
async fn what_lost_dispatchers_left_is_given_up_whatever_the_rows_hold() {
    let inbox = Inbox::open().await;
    let database = database_for(&inbox).await;
    leave_behind(&database, 424_242, 150, "NULL").await;
    leave_behind(&database, 424_242, 1, RANDOM_TEXT).await;
    database.execute(&format!("UPDATE postcall.sending SET agent = {RANDOM_TEXT} WHERE sid IS NOT NULL")).await;
    // Claimed by a clock that was set back since, long after or before it was inserted.
    database
        .execute(
            "ALTER TABLE postcall.sending DROP CONSTRAINT sending_times_are_in_range;
             UPDATE postcall.sending SET claimed_at = now() + interval '1 day' WHERE sid IS NULL;
             UPDATE postcall.sending SET created_at = '4713-01-01 BC' WHERE sid IS NOT NULL;",
        )
        .await;
    leave_behind(&database, 424_242, 150, "'CA'").await;
    let dispatcher = Dispatcher::start(&database, &[]).await;
    database.settled().await;
    assert_eq!(database.text(STATES).await.unwrap(), "unknown 301");
    let longest = "SELECT max(char_length(call_sid))::bigint FROM postcall.delivery";
    assert_eq!(database.number(longest).await, i64::from(kept::MAX_CALL_SID_CHARS));
    assert_eq!(database.number("SELECT count(*) FROM postcall.delivery WHERE finished_at < claimed_at").await, 0);
    stopped_well(dispatcher).await;
}

/// A dispatcher of the previous release does not carry the call's length and provider id along.
#[tokio::test]
async fn the_provider_s_id_reaches_history_whichever_release_moved_the_delivery() {
    let inbox = Inbox::open().await;
    let database = database_for(&inbox).await;
    let sid = |sid: &str| json!({"kind": "fine", "callInfo": {"callSid": sid}});
    database.insert_call("a", &sid("CA-new")).await;
    database.insert_call("a", &sid("CA-put-back")).await;
    database.insert_call("a", &sid("CA-from-before")).await;
    database
        .execute(
            "UPDATE postcall.waiting SET call_bytes = NULL, call_sid = NULL WHERE call_sid <> 'CA-new';
             ALTER TABLE postcall.outbox DISABLE TRIGGER USER;
             UPDATE postcall.outbox SET call_bytes = NULL, call_sid = NULL, action_ids = NULL WHERE call_sid = 'CA-from-before';
             ALTER TABLE postcall.outbox ENABLE TRIGGER USER;",
        )
        .await;
    let dispatcher = Dispatcher::start(&database, &[]).await;
    database.settled().await;
    let sids = "SELECT string_agg(call_sid, ' ' ORDER BY call_sid) FROM postcall.delivery WHERE state = 'delivered'";
    assert_eq!(database.text(sids).await.unwrap(), "CA-from-before CA-new CA-put-back");
    stopped_well(dispatcher).await;
    // And what it left in flight.
    let id = database.insert_call("a", &sid("CA-left")).await;
    database.execute("DELETE FROM postcall.waiting").await;
    leave_behind(&database, 424_242, 1, "NULL").await;
    database.execute(&format!("UPDATE postcall.sending SET call_bytes = NULL, call_id = '{id}'")).await;
    let dispatcher = Dispatcher::start(&database, &[]).await;
    database.settled().await;
    let left = "SELECT call_sid FROM postcall.delivery WHERE state = 'unknown'";
    assert_eq!(database.text(left).await.unwrap(), "CA-left");
    stopped_well(dispatcher).await;
}

#[tokio::test]
async fn a_delivery_whose_action_is_gone_or_whose_time_is_none_holds_up_nobody() {
    let inbox = Inbox::open().await;
    let database = database_for(&inbox).await;
    database.insert_call("a", &json!({"kind": "vanished"})).await;
    database
        .execute(
            "UPDATE postcall.waiting SET action_id = 999999;
             ALTER TABLE postcall.waiting DROP CONSTRAINT waiting_times_are_in_range;",
        )
        .await;
    database.insert_call("a", &json!({"kind": "endless"})).await;
    database.execute("UPDATE postcall.waiting SET created_at = 'infinity' WHERE action_id <> 999999").await;
    insert_calls(&database, 10).await;
    let dispatcher = Dispatcher::start(&database, &[]).await;
    database.settled().await;
    assert_eq!(database.text(STATES).await.unwrap(), "delivered 11, failed 1");
    let detail = database.text("SELECT error_detail FROM postcall.delivery WHERE state = 'failed'").await.unwrap();
    assert!(detail.contains("cannot be loaded"), "{detail}");
    stopped_well(dispatcher).await;
}

#[tokio::test]
async fn a_delivery_that_was_put_back_into_the_queue_while_it_is_in_flight_holds_up_nobody() {
    let inbox = Inbox::holding().await;
    let database = database_for(&inbox).await;
    insert_calls(&database, 1).await;
    let dispatcher = Dispatcher::start(&database, &ALL_FOR_ONE).await;
    inbox.has(1).await;
    database
        .execute(
            "INSERT INTO postcall.waiting (delivery_id, call_id, agent, action_id, created_at)
             SELECT delivery_id, call_id, agent, action_id, created_at FROM postcall.sending",
        )
        .await;
    insert_calls(&database, 10).await;
    inbox.has(11).await;
    // The double goes while the delivery is in flight: afterwards nothing would tell it from one that was never sent.
    database.until("SELECT count(*) = 0 FROM postcall.waiting").await;
    inbox.answer(11);
    database.settled().await;
    assert_eq!(database.text(STATES).await.unwrap(), "delivered 11");
    assert_eq!(inbox.received().len(), 11);
    stopped_well(dispatcher).await;
}

#[tokio::test]
async fn a_dispatcher_whose_own_row_vanishes_goes_on_as_another() {
    let inbox = Inbox::open().await;
    let database = database_for(&inbox).await;
    let dispatcher = Dispatcher::start(&database, &["--lease-ms", &LEASE_MS.to_string()]).await;
    database
        .execute(
            "ALTER TABLE postcall.dispatcher DISABLE TRIGGER dispatchers_stay;
             DELETE FROM postcall.dispatcher",
        )
        .await;
    insert_calls(&database, 5).await;
    database.settled().await;
    assert_eq!(database.text(STATES).await.unwrap(), "delivered 5");
    stopped_well(dispatcher).await;
}

#[tokio::test]
async fn evidence_that_is_refused_is_recorded_without_its_texts_beside_that_of_others() {
    let inbox = Inbox::holding().await;
    let database = database_for(&inbox).await;
    database
        .execute("ALTER TABLE postcall.resolution ADD CONSTRAINT an_operator_s CHECK (url NOT LIKE '%poison%')")
        .await;
    insert_calls(&database, 3).await;
    publish_poison(&database, &inbox).await;
    database.insert_call("poisoner", &json!({})).await;
    let lease = LEASE_MS.to_string();
    let mut paused = Dispatcher::start(&database, &["--lease-ms", &lease]).await;
    inbox.has(4).await;
    paused.signal(Signal::SIGSTOP);
    let other = Dispatcher::start(&database, &["--lease-ms", &lease]).await;
    database.until("SELECT count(*) = 4 FROM postcall.delivery_history WHERE state = 'unknown'").await;
    inbox.answer(4);
    paused.signal(Signal::SIGCONT);
    paused.says("late results recorded as evidence").await;
    database.until("SELECT count(*) = 4 FROM postcall.delivery_history WHERE state = 'delivered'").await;
    let urls = "SELECT string_agg(replace(url, 'http://', ''), ' ' ORDER BY url) FROM postcall.resolution";
    assert!(database.text(urls).await.unwrap().starts_with("(not kept) "));
    stopped_well(paused).await;
    stopped_well(other).await;
}

#[tokio::test]
async fn what_was_given_up_of_a_claim_whose_answer_was_lost_is_known_to_have_never_been_sent() {
    let database = database_for(&Inbox::open().await).await;
    insert_calls(&database, 4).await;
    let mut session = database.store.session(Duration::from_secs(10));
    let dispatcher_id = Database::register(&mut session).await;
    let claimant = Claimant { dispatcher_id, epoch: 1 };
    let token = Uuid::now_v7();
    assert_eq!(session.claim(claimant, token, &first_lane(3), Portion::UNBOUNDED).await.unwrap().claimed.len(), 3);
    // Its answer is lost, and the dispatcher is declared lost before it can give the claim back.
    database.execute("UPDATE postcall.dispatcher SET lost_at = now()").await;
    let left_behind = session.left_behind(Uuid::nil(), 2).await.unwrap();
    assert_eq!(session.mark_in_flight_unknown(&left_behind, Texts::Kept).await.unwrap(), 2);
    let revoked = session.revoke_claim(claimant, token).await.unwrap();
    assert_eq!((revoked.released.len(), revoked.unsent), (1, 2));
    assert_eq!(database.text(STATES).await.unwrap(), "failed 2, waiting 2");
    // A claim that arrives later still takes nothing, and a repetition is no news.
    assert!(session.claim(claimant, token, &first_lane(3), Portion::UNBOUNDED).await.unwrap().claimed.is_empty());
    assert_eq!(session.revoke_claim(claimant, token).await.unwrap().unsent, 0);
}

#[tokio::test]
async fn what_is_no_longer_left_behind_is_not_given_up() {
    let database = database_for(&Inbox::open().await).await;
    insert_calls(&database, 1).await;
    let mut session = database.store.session(Duration::from_secs(10));
    let dispatcher_id = Database::register(&mut session).await;
    let claimant = Claimant { dispatcher_id, epoch: 1 };
    session.claim(claimant, Uuid::now_v7(), &first_lane(1), Portion::UNBOUNDED).await.unwrap();
    assert!(session.left_behind(Uuid::nil(), 10).await.unwrap().is_empty(), "its dispatcher lives");
    let id = Uuid::parse_str(&database.text("SELECT delivery_id::text FROM postcall.sending").await.unwrap()).unwrap();
    // Found under an earlier claim, and claimed anew meanwhile.
    assert_eq!(session.mark_in_flight_unknown(&[ClaimToken::new(id, Uuid::now_v7())], Texts::Kept).await.unwrap(), 0);
    assert_eq!(database.text(STATES).await.unwrap(), "sending 1");
}
