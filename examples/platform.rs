//! A platform that completes phone calls in its own transactions, and hands each call to postcall in the same transaction.
//!
//! ```text
//! DATABASE_URL=… cargo run --example platform -- setup            # once, as the owner of the database
//! DATABASE_URL=… cargo run --example platform -- agent_7f3k2 3    # as a user who has the role postcall_platform
//! ```
//!
//! The second command completes three calls, and rolls back the completion of a fourth one. Of that one nothing is left:
//! in the platform's table it is still going on, and postcall does not know it.

use std::error::Error;

use sqlx::{Connection, PgConnection};
use uuid::Uuid;

/// The platform's own table. A call without a duration is still going on.
const SETUP: &str = "CREATE TABLE IF NOT EXISTS phone_call (sid text PRIMARY KEY, agent text NOT NULL, seconds int);
                     GRANT SELECT, INSERT, UPDATE ON phone_call TO postcall_platform";

/// A phone call of the platform.
struct PhoneCall {
    /// The id that its delivery will be traced back to. It is chosen before the transaction begins, so that the
    /// transaction can be repeated; see [`complete`].
    id: Uuid,
    sid: String,
    agent: String,
}

/// A call begins. postcall hears nothing of it yet.
async fn begin(database: &mut PgConnection, agent: &str) -> Result<PhoneCall, sqlx::Error> {
    let id = Uuid::now_v7();
    let call = PhoneCall { id, sid: format!("CA{}", id.simple()), agent: agent.to_owned() };
    sqlx::query("INSERT INTO phone_call (sid, agent) VALUES ($1, $2)")
        .bind(&call.sid)
        .bind(&call.agent)
        .execute(database)
        .await?;
    Ok(call)
}

/// Completes a call: the platform's own row and the row for postcall, in a transaction of the caller.
///
/// If the connection breaks during the commit, the platform cannot know whether the call was committed. It repeats the whole
/// transaction with the same id. If the first one was committed, the second insert does nothing.
async fn complete(transaction: &mut PgConnection, call: &PhoneCall, seconds: i32) -> Result<(), sqlx::Error> {
    sqlx::query("UPDATE phone_call SET seconds = $2 WHERE sid = $1")
        .bind(&call.sid)
        .bind(seconds)
        .execute(&mut *transaction)
        .await?;
    let json = serde_json::json!({"callInfo": {"callSid": call.sid}, "duration": seconds});
    // The JSON travels as text, and postcall keeps it as it is written here.
    let insert = "INSERT INTO postcall.outbox (id, agent, call) VALUES ($1, $2, $3::text::json)
                  ON CONFLICT (id) DO NOTHING";
    sqlx::query(insert).bind(call.id).bind(&call.agent).bind(json.to_string()).execute(transaction).await?;
    Ok(())
}

/// Completes so many calls, and rolls one more back.
async fn work(database: &mut PgConnection, agent: &str, calls: usize) -> Result<(), sqlx::Error> {
    for _ in 0..calls {
        let call = begin(database, agent).await?;
        let mut transaction = database.begin().await?;
        complete(&mut transaction, &call, 42).await?;
        transaction.commit().await?;
        println!("committed {}", call.id);
    }
    let call = begin(database, agent).await?;
    let mut transaction = database.begin().await?;
    complete(&mut transaction, &call, 42).await?;
    transaction.rollback().await?;
    println!("rolled back {}", call.id);
    Ok(())
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let mut database = PgConnection::connect(&std::env::var("DATABASE_URL")?).await?;
    match &arguments[..] {
        [command] if command == "setup" => {
            sqlx::raw_sql(SETUP).execute(&mut database).await?;
        }
        [agent, calls] => work(&mut database, agent, calls.parse()?).await?,
        _ => return Err("usage: platform setup, or platform AGENT CALLS".into()),
    }
    database.close().await?;
    Ok(())
}
