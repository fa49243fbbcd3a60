//! What the database cannot return of an action: a version, a secret, a signing key. The deliveries that need it fail, and no other one
//! does, not even if the connection ends while it is found out which one is at fault.

use serde_json::json;

use crate::signing::changed;
use crate::support::database::Database;
use crate::support::inbox::Inbox;
use crate::support::keys::{key_file, new_key, set, started};
use crate::support::process::{ALL_FOR_ONE, Dispatcher};
use crate::support::proxy::{Fate, Proxy};

const ENDS: &str =
    "SELECT string_agg(concat_ws(' ', agent, state, error_detail), E'\\n' ORDER BY agent) FROM postcall.delivery";

/// From now on, who reads this column of the rows for which `condition` holds gets the error of a damaged page. A stable function,
/// because the planner lets a view with a volatile one read all rows.
async fn damage(database: &Database, table: &str, column: &str, condition: &str) {
    let columns = format!(
        "SELECT string_agg(CASE WHEN attname = '{column}'
             THEN 'CASE WHEN {condition} THEN public.damaged({column}) ELSE {column} END AS {column}' ELSE quote_ident(attname) END,
             ', ' ORDER BY attnum)
         FROM pg_attribute WHERE attrelid = 'postcall.{table}'::regclass AND attnum > 0 AND NOT attisdropped"
    );
    let columns = database.text(&columns).await.unwrap();
    database
        .execute(&format!(
            "CREATE FUNCTION public.damaged(anyelement) RETURNS anyelement LANGUAGE plpgsql STABLE
             AS $$ BEGIN RAISE 'invalid page' USING ERRCODE = 'XX001'; END $$;
             ALTER TABLE postcall.{table} RENAME TO {table}_kept;
             CREATE VIEW postcall.{table} AS SELECT {columns} FROM postcall.{table}_kept"
        ))
        .await;
}

/// The agents whose calls one claim takes, if one host may have all places; what `b` needs is damaged.
const AGENTS: [&str; 3] = ["a", "b", "c"];

/// Commits a call of each agent at once.
async fn insert_calls(database: &Database) {
    database.execute("INSERT INTO postcall.outbox (agent, call) SELECT unnest(ARRAY['a', 'b', 'c']), '{}'").await;
}

/// A proxy to the database that loses the second statement with `marker`: the first of those that read one row alone.
async fn losing_the_second(database: &Database, marker: &'static str) -> Proxy {
    let proxy = Proxy::to_server_of(&database.url).await;
    let mut count = 0;
    proxy.judge(move |sql| {
        count += usize::from(sql.contains(marker));
        if sql.contains(marker) && count == 2 { Fate::LoseStatement } else { Fate::Pass }
    });
    proxy
}

/// That the deliveries of the others were sent, and that of `b` failed and says this.
async fn only_b_failed(database: &Database, inbox: &Inbox, proxy: &Proxy, detail: &str) {
    database.settled().await;
    assert_eq!(proxy.interventions(), 1);
    let ends = database.text(ENDS).await.unwrap();
    let [a, b, c] = ends.lines().collect::<Vec<_>>().try_into().unwrap();
    assert_eq!((a, c), ("a delivered", "c delivered"), "{ends}");
    assert!(b.starts_with("b failed ") && b.contains(detail), "{ends}");
    assert_eq!(inbox.received().len(), 2);
}

#[tokio::test]
async fn a_version_that_cannot_be_read_fails_its_own_deliveries() {
    let (database, inbox) = (Database::new().await, Inbox::open().await);
    for agent in AGENTS {
        database.publish(agent, "default", &json!({"method": "POST", "url": inbox.url("/")})).await;
    }
    damage(&database, "action_version", "body", "action_id = 2").await;
    insert_calls(&database).await;
    let proxy = losing_the_second(&database, "FROM postcall.action_version").await;
    let _dispatcher = Dispatcher::start_at(&proxy.url_of(&database.url), &ALL_FOR_ONE).await;
    only_b_failed(&database, &inbox, &proxy, "cannot be loaded").await;
}

#[tokio::test]
async fn a_secret_that_cannot_be_read_fails_the_deliveries_that_name_it() {
    let (database, inbox, keys) = (Database::new().await, Inbox::open().await, key_file(&[&new_key()]));
    for agent in AGENTS {
        set(&database, &keys, agent, "TOKEN", "a token");
        let action = json!({"method": "POST", "url": inbox.url("/"), "headers": {"x-token": "${secret.TOKEN}"}});
        database.publish(agent, "default", &action).await;
    }
    damage(&database, "secret", "sealed_value", "agent = ''b''").await;
    insert_calls(&database).await;
    let proxy = losing_the_second(&database, "JOIN postcall.secret").await;
    let arguments = [&ALL_FOR_ONE[..], &["--key-file", keys.path().to_str().unwrap()]].concat();
    let _dispatcher = Dispatcher::start_at(&proxy.url_of(&database.url), &arguments).await;
    only_b_failed(&database, &inbox, &proxy, "it was changed in the database. Set it anew").await;
}

#[tokio::test]
async fn a_signing_key_that_cannot_be_read_fails_the_deliveries_of_its_agent() {
    let (database, inbox, keys) = (Database::new().await, Inbox::open().await, key_file(&[&new_key()]));
    for agent in AGENTS {
        database.publish(agent, "default", &json!({"method": "POST", "url": inbox.url("/")})).await;
        changed(&database, &keys, &["enable", agent]);
    }
    // A dispatcher that signs is there before a call is to be signed.
    drop(started(&database, &keys).await);
    damage(&database, "signing_key", "sealed_value", "agent = ''b''").await;
    insert_calls(&database).await;
    let proxy = losing_the_second(&database, "JOIN postcall.signing_key AS found").await;
    let arguments = [&ALL_FOR_ONE[..], &["--key-file", keys.path().to_str().unwrap()]].concat();
    let _dispatcher = Dispatcher::start_at(&proxy.url_of(&database.url), &arguments).await;
    only_b_failed(&database, &inbox, &proxy, "it was changed in the database. Disable signing").await;
}
