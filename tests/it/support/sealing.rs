//! Seals history without a dispatcher, as its sealer does.

use std::path::Path;
use std::sync::Arc;

use postcall::dispatcher::checkpoints::CheckpointDir;
use postcall::dispatcher::sealer::{SealKeys, Sealer, Sealing};
use postcall::seal::key::Signer;
use serde_json::json;

use super::database::Database;
use super::endings::ended;

/// The key that the tests seal with.
pub fn key() -> Signer {
    Signer::from_seed("test.example/history", &[7; 32]).unwrap()
}

/// Its text for `--key`.
pub fn public() -> String {
    key().verifier().to_string()
}

/// A sealer that signs with this key and exports to this directory.
pub fn sealer_with(database: &Database, signer: Signer, directory: Option<&Path>) -> Sealer {
    let keys = Arc::new(SealKeys { signer, earlier: Vec::new() });
    let checkpoints = directory.map(|path| CheckpointDir::open(path).unwrap());
    Sealer::new(&database.store, Sealing { keys, checkpoints, outlet: None, authority: None }, &Arc::default())
}

/// As [`sealer_with`], by a key that came after this one.
pub fn sealer_after(database: &Database, signer: Signer, earlier: &Signer, directory: Option<&Path>) -> Sealer {
    let keys = Arc::new(SealKeys { signer, earlier: vec![earlier.verifier().clone()] });
    let checkpoints = directory.map(|path| CheckpointDir::open(path).unwrap());
    Sealer::new(&database.store, Sealing { keys, checkpoints, outlet: None, authority: None }, &Arc::default())
}

/// A sealer with the tests' key that exports nothing.
pub fn sealer(database: &Database) -> Sealer {
    sealer_with(database, key(), None)
}

/// Seals all that can be sealed. No other test's transaction is waited for: what this database's rows need is waited for.
pub async fn seal(database: &Database, directory: Option<&Path>) {
    seal_by(database, &mut sealer_with(database, key(), directory)).await;
}

/// As [`seal`], by this sealer. It begins when all of it can be sealed: otherwise the transactions of other tests would decide into
/// how many slices it is cut.
pub async fn seal_by(database: &Database, sealer: &mut Sealer) {
    let newest = database.number(NEWEST).await;
    let has_ended = format!(
        "SELECT (pg_snapshot_xmin(pg_current_snapshot())::text::bigint + ahead > {newest})::int::bigint FROM postcall.seal_turn"
    );
    let mut look = tokio::time::interval(std::time::Duration::from_millis(20));
    for _ in 0..3_000 {
        look.tick().await;
        if database.number(&has_ended).await == 1 {
            database.execute("UPDATE postcall.seal_turn SET held_until = NULL").await;
            sealer.round().await.unwrap();
            let through = database.number("SELECT coalesce(max(through_xact), -1) FROM postcall.seal_slice").await;
            assert!(newest <= through, "{newest} {through}");
            return;
        }
    }
    panic!("waited a minute for the end of transaction {newest}");
}

/// The newest transaction that wrote something that is sealed.
const NEWEST: &str =
    "SELECT greatest((SELECT max(xact) FROM postcall.delivery), (SELECT max(xact) FROM postcall.resolution),
    (SELECT max(xact) FROM postcall.replay), (SELECT max(xact) FROM postcall.action_version),
    (SELECT max(xact) FROM postcall.action_switch), (SELECT max(xact) FROM postcall.pause),
    (SELECT max(xact) FROM postcall.pause_end), (SELECT max(xact) FROM postcall.pruning), -1)";

/// A database with an action and this many deliveries that have ended.
pub async fn database_with(deliveries: i32) -> Database {
    let database = Database::new().await;
    database.publish("a", "default", &json!({"method": "POST", "url": "https://receiver.example/"})).await;
    ended(&database, "delivered", deliveries).await;
    database
}

/// Lets the owner do what no guard allows.
pub async fn unguarded(database: &Database, sql: &str) {
    let triggers = "SELECT string_agg(format('ALTER TABLE %s %s TRIGGER %I', tgrelid::regclass, change, tgname), '; ')
                    FROM pg_trigger JOIN pg_class ON pg_class.oid = tgrelid,
                         LATERAL (SELECT CASE WHEN $off THEN 'DISABLE' WHEN tgenabled = 'A' THEN 'ENABLE ALWAYS'
                                              ELSE 'ENABLE' END) AS of (change)
                    WHERE relnamespace = 'postcall'::regnamespace AND NOT tgisinternal AND tgparentid = 0";
    let [off, on] = ["true", "false"].map(|off| triggers.replace("$off", off));
    let (off, on) = (database.text(&off).await.unwrap(), database.text(&on).await.unwrap());
    database.execute(&format!("{off}; {sql}; {on}")).await;
}
