//! A dispatcher killed at each point of a delivery's way. What brings it to a stop there is outside of it: a lock, a
//! connection that does not open, a receiver that holds, a proxy.

use crate::support::accounts::{self, Accounts};
use crate::support::database::Database;
use crate::support::fleet::{Fleet, LEASE_MS};
use crate::support::proxy::{Fate, Proxy};
use crate::support::tally::{Tally, Unreachable};

use super::{CLAIM, COMPLETION, Obstacle, insert_calls, send_calls_to};

const PERMITS: usize = 4;
const CALLS: usize = 10;

/// Uncommitted, this stops a claim inside its transaction: it comes to the oldest row, finds its key taken in the table
/// of what is in flight, and waits for the end of the transaction that took it. (A locked table would stop it earlier,
/// where the statement is prepared, and so nothing would be executed after its dispatcher's death.)
const TAKE_KEY_OF_CLAIM: &str = "INSERT INTO postcall.sending
         (delivery_id, call_id, agent, action_id, action_version, created_at, dispatcher_id, claim, claimed_at)
     SELECT delivery_id, call_id, agent, action_id, 1, created_at, 0, gen_random_uuid(), now()
     FROM postcall.waiting ORDER BY delivery_id LIMIT 1";

/// With these, a claim stops at its commit, when nothing else is missing, as long as somebody holds the lock.
const COMMIT_NEEDS_LOCK: &str = "CREATE FUNCTION commit_waits() RETURNS trigger LANGUAGE plpgsql AS
         'BEGIN PERFORM pg_advisory_xact_lock(1); RETURN NULL; END';
     CREATE CONSTRAINT TRIGGER commit_waits AFTER INSERT ON postcall.sending DEFERRABLE INITIALLY DEFERRED
         FOR EACH ROW EXECUTE FUNCTION commit_waits()";
const TAKE_LOCK_OF_COMMIT: &str = "SELECT pg_advisory_xact_lock(1)";

/// Likewise for the completion of whatever is in flight now.
const TAKE_KEYS_OF_COMPLETION: &str = "INSERT INTO postcall.delivery
         (delivery_id, call_id, claim, action_id, created_at, claimed_at, finished_at, action_version, dispatcher_id,
          agent, state)
     SELECT delivery_id, call_id, claim, action_id, created_at, claimed_at, clock_timestamp(), action_version, 0,
            agent, 'skipped'
     FROM postcall.sending";

/// Lets another dispatcher do what is left, and draws up the accounts.
async fn aftermath(database: &Database, tally: &Tally, mut fleet: Fleet) -> Accounts {
    fleet.add().await;
    fleet.finish(database).await;
    let accounts = accounts::check(&database.pool, tally, &[]).await;
    assert_eq!(accounts.committed, CALLS);
    fleet.assert_doubt_is_bounded(&accounts);
    accounts
}

async fn scene(tally_url: &str) -> Database {
    let database = Database::new().await;
    send_calls_to(&database, tally_url).await;
    insert_calls(&database, CALLS).await;
    database
}

/// Waits until this dispatcher has renewed its lease, so that it had time to go on with what it could.
async fn renewed(database: &Database, dispatcher: i32) {
    let lease = format!("(SELECT lease_until FROM postcall.dispatcher WHERE dispatcher_id = {dispatcher})");
    let now = database.text(&format!("SELECT {lease}::text")).await.unwrap();
    database.until(&format!("SELECT {lease} > '{now}'")).await;
}

/// It comes to a stop when nothing but the commit is missing, and in the middle of the claim's statement.
#[tokio::test]
async fn killed_before_its_claim_commits_it_has_sent_nothing() {
    // Of a commit it does not matter by which statement it is asked for.
    for (obstacle, met_by) in [(TAKE_LOCK_OF_COMMIT, ""), (TAKE_KEY_OF_CLAIM, CLAIM)] {
        let tally = Tally::open().await;
        let database = scene(&tally.url()).await;
        database.execute(COMMIT_NEEDS_LOCK).await;
        let obstacle = Obstacle::put(&database, obstacle).await;
        let mut fleet = Fleet::start(&database.url, 1, PERMITS).await;
        obstacle.is_met_by(&database, met_by).await;
        renewed(&database, fleet.members[0].id()).await;
        fleet.kill(0).await;
        assert_eq!(tally.requests(), 0, "what is not committed is not sent");
        // Postgres does not know that nobody waits for the answer any more, and commits the claim.
        obstacle.remove().await;
        let accounts = aftermath(&database, &tally, fleet).await;
        assert_eq!((accounts.shown("unknown"), accounts.requests), (PERMITS, CALLS - PERMITS));
    }
}

/// The claim of a dispatcher that is long lost: its transaction began while it lived and commits after it was given up.
#[tokio::test]
async fn a_claim_that_commits_after_its_dispatcher_was_given_up_is_not_left_in_flight() {
    let tally = Tally::open().await;
    let database = scene(&tally.url()).await;
    let obstacle = Obstacle::put(&database, TAKE_KEY_OF_CLAIM).await;
    let mut fleet = Fleet::start(&database.url, 1, PERMITS).await;
    obstacle.is_met_by(&database, CLAIM).await;
    fleet.kill(0).await;
    fleet.add().await;
    // The other dispatcher sends the rest, and has had time to notice that the first one is lost.
    tally.has(CALLS - PERMITS).await;
    let now = database.text("SELECT clock_timestamp()::text").await.unwrap();
    database.until(&format!("SELECT clock_timestamp() > '{now}'::timestamptz + interval '{} ms'", 3 * LEASE_MS)).await;
    obstacle.remove().await;
    aftermath(&database, &tally, fleet).await;
}

#[tokio::test]
async fn killed_after_its_claim_and_before_the_first_byte_it_leaves_doubts_that_were_never_sent() {
    let nobody = Unreachable::new().await;
    let database = scene(&nobody.url()).await;
    let mut fleet = Fleet::start(&database.url, 1, PERMITS).await;
    nobody.is_knocked_at(PERMITS).await;
    fleet.kill(0).await;
    let tally = nobody.open();
    let accounts = aftermath(&database, &tally, fleet).await;
    assert_eq!((accounts.shown("unknown"), accounts.unrequested), (PERMITS, PERMITS));
}

#[tokio::test]
async fn killed_during_its_requests_it_leaves_doubts_that_were_sent_once() {
    let tally = Tally::holding().await;
    let database = scene(&tally.url()).await;
    let mut fleet = Fleet::start(&database.url, 1, PERMITS).await;
    tally.has(PERMITS).await;
    fleet.kill(0).await;
    tally.answer_all();
    let accounts = aftermath(&database, &tally, fleet).await;
    assert_eq!((accounts.shown("unknown"), accounts.unrequested), (PERMITS, 0));
}

#[tokio::test]
async fn killed_after_the_response_and_before_the_completion_it_leaves_doubts_that_were_sent_once() {
    let tally = Tally::holding().await;
    let database = scene(&tally.url()).await;
    let proxy = Proxy::to_server_of(&database.url).await;
    proxy.once(COMPLETION, Fate::Hold);
    let mut fleet = Fleet::start(&proxy.url_of(&database.url), 1, PERMITS).await;
    tally.has(PERMITS).await;
    tally.answer_all();
    // A response is there, and its completion never arrives.
    proxy.intervened(1).await;
    fleet.kill(0).await;
    let accounts = aftermath(&database, &tally, fleet).await;
    assert_eq!((accounts.shown("unknown"), accounts.unrequested), (PERMITS, 0));
}

#[tokio::test]
async fn killed_during_the_completion_what_was_completed_is_delivered() {
    let tally = Tally::holding().await;
    let database = scene(&tally.url()).await;
    let mut fleet = Fleet::start(&database.url, 1, PERMITS).await;
    tally.has(PERMITS).await;
    let obstacle = Obstacle::put(&database, TAKE_KEYS_OF_COMPLETION).await;
    tally.answer_all();
    obstacle.is_met_by(&database, COMPLETION).await;
    fleet.kill(0).await;
    obstacle.remove().await;
    let accounts = aftermath(&database, &tally, fleet).await;
    assert!(accounts.shown("unknown") < PERMITS, "the completion that was under way counts: {accounts}");
    assert_eq!(accounts.unrequested, 0);
}

#[tokio::test]
async fn killed_before_it_heard_of_its_completion_it_has_completed() {
    let tally = Tally::holding().await;
    let database = scene(&tally.url()).await;
    let proxy = Proxy::to_server_of(&database.url).await;
    let mut completions = 0;
    // The first answer is lost, and what the dispatcher then asks or repeats does not arrive.
    proxy.judge(move |sql| {
        completions += usize::from(sql.contains(COMPLETION));
        match completions {
            0 => Fate::Pass,
            1 if sql.contains(COMPLETION) => Fate::LoseAnswer,
            _ => Fate::Hold,
        }
    });
    let mut fleet = Fleet::start(&proxy.url_of(&database.url), 1, PERMITS).await;
    tally.has(PERMITS).await;
    tally.answer_all();
    proxy.intervened(1).await;
    let completed = database.number("SELECT count(*) FROM postcall.delivery WHERE state = 'delivered'").await;
    assert!(completed > 0);
    fleet.kill(0).await;
    proxy.judge(|_| Fate::Pass);
    let accounts = aftermath(&database, &tally, fleet).await;
    assert!(accounts.shown("unknown") < PERMITS, "what was completed is no doubt: {accounts}");
}
