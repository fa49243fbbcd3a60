//! A database with something of everything: as the console shows it.

use serde_json::{Value, json};
use sqlx::AssertSqlSafe;
use uuid::Uuid;

use super::database::Database;
use super::endings::ended;
use super::process::{Dispatcher, postcall_on};
use super::receiver::Receiver;

/// What a customer writes who means harm.
pub const SCRIPT: &str = "<script>alert(1)</script>\"'><img src=x onerror=alert(2)>&amp;${x}\u{202e}";

/// The life.
pub struct Life {
    pub database: Database,
    pub call: Uuid,
    _dispatcher: Dispatcher,
    _receivers: [Receiver; 3],
}

impl Life {
    /// Lets a dispatcher send calls of the agent `voice-support` to receivers that answer differently, with replays,
    /// findings and pauses; and an agent and its call whose texts are [`SCRIPT`].
    pub async fn new() -> Life {
        Life::made(true).await
    }

    /// The same without the agent who means harm.
    pub async fn plain() -> Life {
        Life::made(false).await
    }

    async fn made(is_hostile: bool) -> Life {
        let database = Database::new().await;
        let takes = Receiver::answering(b"HTTP/1.1 201 Created\r\ncontent-length: 14\r\n\r\n{\"id\": \"4711\"}").await;
        let refuses = Receiver::answering(b"HTTP/1.1 422 Unprocessable Content\r\ncontent-length: 0\r\n\r\n").await;
        let hangs = Receiver::start(|mut peer| async move { peer.hang().await }).await;
        publish(&database, &takes.url("/hook?api_key=s3cret"), &refuses.url("/tickets"), &hangs.url("/archive")).await;
        if is_hostile {
            publish_hostile(&database, &takes.url("/hook?api_key=s3cret")).await;
        }
        // Before a dispatcher runs: it would send them.
        by_hand(&database, is_hostile).await;
        pause(&database, "appointments", "their maintenance window", "Grace Hopper");
        let dispatcher = Dispatcher::start(&database, &[]).await;
        let first = database.insert_call("voice-support", &call("CA5f0e2b", "The parcel has not arrived.")).await;
        for number in 1..=3 {
            database.insert_call("voice-support", &call(&format!("CA5f0e2c{number}"), "All is well, thank you.")).await;
        }
        if is_hostile {
            database.insert_call(SCRIPT, &call(SCRIPT, SCRIPT)).await;
        }
        database.settled().await;
        replays_and_findings(&database).await;
        if is_hostile {
            pause(&database, SCRIPT, SCRIPT, SCRIPT);
        }
        waits(&database).await;
        Life { database, call: first, _dispatcher: dispatcher, _receivers: [takes, refuses, hangs] }
    }

    /// The id of a delivery, the newest that matches.
    pub async fn delivery(&self, condition: &str) -> String {
        let sql = format!(
            "SELECT delivery_id::text FROM postcall.delivery_history WHERE {condition} ORDER BY delivery_id DESC LIMIT 1"
        );
        self.database.text(&sql).await.unwrap()
    }
}

fn call(sid: &str, transcript: &str) -> Value {
    json!({ "callInfo": { "callSid": sid, "from": "+4930123456", "duration": 74 }, "transcript": transcript })
}

async fn publish(database: &Database, takes: &str, refuses: &str, hangs: &str) {
    let body = "{\n  \"call\": \"${callInfo.callSid}\",\n  \"seconds\": ${callInfo.duration},\n  \"text\": \"${transcript}\"\n}";
    let headers = r#"{"authorization": "Bearer s3cret", "x-source": "voice ${callInfo.callSid}"}"#;
    let crm = json!({ "method": "POST", "url": takes, "headers": headers, "body": body, "timeout": 5000 });
    database.publish("voice-support", "crm", &crm).await;
    database.publish("voice-support", "tickets", &json!({ "method": "PUT", "url": refuses })).await;
    database.publish("voice-support", "archive", &json!({ "method": "POST", "url": hangs, "timeout": 100 })).await;
    database.publish("voice-support", "intern", &json!({ "method": "GET", "url": "https://10.0.0.1/calls" })).await;
    let off = json!({ "method": "GET", "url": "https://old.example/", "enabled": false });
    database.publish("voice-support", "old", &off).await;
    for name in ["appointments", "sales-de", "sales-fr"] {
        database.publish(name, "default", &json!({ "method": "POST", "url": "https://crm.example/calls" })).await;
    }
    database.publish("a", "default", &json!({ "method": "POST", "url": "https://receiver.example/" })).await;
}

async fn publish_hostile(database: &Database, takes: &str) {
    let text = serde_json::to_string(SCRIPT).unwrap();
    let hostile = json!({ "method": "POST", "url": takes, "headers": format!("{{\"x-a\": {text}}}").replace("${x}", ""),
                          "body": text.replace("${x}", "${transcript}") });
    database.publish(SCRIPT, SCRIPT, &hostile).await;
}

/// What somebody else wrote.
async fn by_hand(database: &Database, is_hostile: bool) {
    ended(database, "skipped", 1).await;
    let id = ended(database, "delivered", 1).await.remove(0);
    if !is_hostile {
        return;
    }
    // History refuses changes, so this one is written by hand from the start.
    let hostile = format!(
        "INSERT INTO postcall.delivery
             (delivery_id, call_id, claim, action_id, created_at, claimed_at, finished_at, action_version, dispatcher_id,
              agent, state, error_kind, error_detail, latency_ms, method, url, call_sid, unresolved)
         SELECT postcall.uuid_v7(), call_id, claim, action_id, created_at, claimed_at, finished_at, 1, 1, $1, 'failed',
                'dns', $1, 1, 'POST', 'https://x.example/?q=' || $1, $1, ARRAY[$1]
         FROM postcall.delivery WHERE delivery_id = '{id}'"
    );
    sqlx::query(AssertSqlSafe(hostile)).bind(SCRIPT).execute(&database.pool).await.unwrap();
}

/// What people did.
async fn replays_and_findings(database: &Database) {
    let oldest = |action: &str| {
        format!(
            "SELECT delivery_id::text FROM postcall.delivery_history WHERE agent = 'voice-support' AND action = '{action}'
             ORDER BY delivery_id LIMIT 1"
        )
    };
    let (tickets, archive) =
        (database.text(&oldest("tickets")).await.unwrap(), database.text(&oldest("archive")).await.unwrap());
    let reason = ["--reason", "the receiver's form was changed", "--by", "Ada Lovelace"];
    run(database, &[&["replay", &tickets][..], &reason].concat());
    run(database, &[&["resolve", &archive, "--as", "delivered"][..], &["--reason", "found in their log"]].concat());
    database.settled().await;
}

fn pause(database: &Database, agent: &str, reason: &str, by: &str) {
    run(database, &["pause", "agent", agent, "--reason", reason, "--by", by]);
}

/// A delivery that has waited for some time.
async fn waits(database: &Database) {
    database.insert_call("appointments", &call("CA77aa", "Tomorrow at nine.")).await;
    database.execute("UPDATE postcall.waiting SET created_at = created_at - interval '2 hours'").await;
}

fn run(database: &Database, arguments: &[&str]) {
    let output = postcall_on(database, arguments);
    assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
}
