//! People: they replay deliveries, and record what they found out about doubts, by the program's commands.

use std::time::Duration;

use sqlx::AssertSqlSafe;
use uuid::Uuid;

use crate::run::Run;

/// Orders for each thousand kills; at least one of each kind.
const ORDERS: u64 = 200;

/// Gives orders until the stream of calls is over.
pub async fn order(run: &Run) {
    let mut chance = run.chance(4);
    let often = (run.arguments.kills * ORDERS).div_ceil(1_000).max(2);
    let asked = crate::run::Count::default();
    while !run.is_over() {
        tokio::time::sleep(Duration::from_millis(chance.u64(100..900))).await;
        if !run.is_due(often, &asked) {
            continue;
        }
        // Whoever is not answered asks again later.
        let is_finding = asked.get() % 3 == 0;
        let given = if is_finding { find(run, &mut chance).await } else { replay(run, &mut chance).await };
        if given.is_some() {
            asked.add(1);
        }
    }
}

/// Deliveries that ended a while ago and for which this condition holds; some of the newest.
async fn ended(run: &Run, which: &str, chance: &mut fastrand::Rng) -> Option<Vec<Uuid>> {
    let mut connection = run.ways.connect().await.ok()?;
    let sql = format!(
        "SELECT delivery_id FROM postcall.delivery
         WHERE {which} AND finished_at < now() - interval '3 s'
         ORDER BY delivery_id DESC OFFSET {} LIMIT 5",
        chance.u32(..200)
    );
    let ids: Vec<Uuid> = sqlx::query_scalar(AssertSqlSafe(sql)).fetch_all(&mut connection).await.ok()?;
    (!ids.is_empty()).then_some(ids)
}

async fn replay(run: &Run, chance: &mut fastrand::Rng) -> Option<()> {
    let state = ["unknown", "delivered", "rejected", "failed"][chance.usize(..4)];
    let ids = ended(run, &format!("state = '{state}'"), chance).await?;
    let mut given = 0;
    for id in &ids {
        let id = id.to_string();
        let arguments =
            ["replay", &id, "--include-unknown", "--include-delivered", "--reason", "torture", "--by", "Ada"];
        given += u64::from(command(run, &arguments).await);
    }
    run.counts.replays.add(given);
    run.happened(format!("a person replays {given} deliveries that are {state}"));
    (given > 0).then_some(())
}

/// Doubts about which a receiver can be asked. It knows a replay by the id of the message, as it knows the first delivery, so it cannot tell
/// whether the replay has arrived.
const ANSWERABLE: &str = "state = 'unknown' AND NOT EXISTS (
    SELECT FROM postcall.replay WHERE delivery.delivery_id IN (replay.delivery_id, replay.message_id))";

/// A person asks the receiver about doubts, and records what is true.
async fn find(run: &Run, chance: &mut fastrand::Rng) -> Option<()> {
    let ids = ended(run, ANSWERABLE, chance).await?;
    let mut given = 0;
    for id in &ids {
        let found = if run.record.count(*id) > 0 { "delivered" } else { "failed" };
        let id = id.to_string();
        let arguments = ["resolve", &id, "--as", found, "--reason", "torture", "--by", "Grace"];
        given += u64::from(command(run, &arguments).await);
    }
    run.counts.findings.add(given);
    run.happened(format!("a person finds out about {given} doubts"));
    (given > 0).then_some(())
}

/// Runs a command; whether it was accepted.
async fn command(run: &Run, arguments: &[&str]) -> bool {
    let mut command = tokio::process::Command::new(&run.arguments.binary);
    command.env("DATABASE_URL", run.ways.others_url()).args(arguments).kill_on_drop(true);
    let output = tokio::time::timeout(Duration::from_secs(30), command.output()).await;
    output.is_ok_and(|output| output.is_ok_and(|output| output.status.success()))
}
