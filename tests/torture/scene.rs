//! The agents, their actions and their calls: honest receivers beside hanging and unreachable ones, and poison among them.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;

use serde_json::json;
use sqlx::PgConnection;

use crate::members::MAX_CALL_BYTES;
use crate::receivers::{Manner, Record, open};

/// One agent.
pub struct Agent {
    pub name: &'static str,
    /// How many of a thousand calls are its own.
    pub share: u32,
    manner: Manner,
    kind: Kind,
}

/// What is peculiar about its calls.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Plain,
    /// Each call is sent by a second action, too.
    Twofold,
    /// An empty value where the path of the URL needs one.
    Unrenderable,
    /// Calls beyond the largest that is sent.
    TooLarge,
    /// The version was damaged after it had been published.
    Damaged,
    /// History refuses its rows.
    RefusedByHistory,
    /// What is in flight refuses its rows.
    Unclaimable,
}

const fn agent(name: &'static str, share: u32, manner: Manner, kind: Kind) -> Agent {
    Agent { name, share, manner, kind }
}

/// All agents; the shares are of a thousand.
pub const AGENTS: [Agent; 13] = [
    agent("honest", 464, Manner::Honest, Kind::Plain),
    agent("other-honest", 148, Manner::Honest, Kind::Plain),
    agent("twofold", 100, Manner::Honest, Kind::Twofold),
    agent("slow", 100, Manner::Slow, Kind::Plain),
    agent("refusing", 80, Manner::Refuses, Kind::Plain),
    agent("resetting", 50, Manner::Resets, Kind::Plain),
    agent("flapping", 40, Manner::Flaps, Kind::Plain),
    agent("hanging", 6, Manner::Hangs, Kind::Plain),
    agent("unrenderable", 4, Manner::Honest, Kind::Unrenderable),
    agent("too-large", 1, Manner::Honest, Kind::TooLarge),
    agent("damaged", 3, Manner::Honest, Kind::Damaged),
    agent("refused-by-history", 3, Manner::Honest, Kind::RefusedByHistory),
    agent("unclaimable", 1, Manner::Honest, Kind::Unclaimable),
];

impl Agent {
    /// Whether what is in flight refuses its rows.
    pub fn is_unclaimable(&self) -> bool {
        self.kind == Kind::Unclaimable
    }

    /// Whether an outcome of it may be unknown although its dispatcher lives.
    pub fn may_be_in_doubt(name: &str) -> bool {
        AGENTS
            .iter()
            .any(|agent| agent.name == name && matches!(agent.manner, Manner::Hangs | Manner::Resets | Manner::Flaps))
    }

    /// Which final states its deliveries may be in when all is over, besides `unknown`.
    pub fn may_end_as(name: &str, state: &str) -> bool {
        let Some(agent) = AGENTS.iter().find(|agent| agent.name == name) else { return false };
        match (agent.kind, agent.manner) {
            (Kind::Unrenderable | Kind::TooLarge | Kind::Damaged, _) => state == "failed",
            // A person may have found that a request without an answer arrived.
            (_, Manner::Refuses) => matches!(state, "rejected" | "failed" | "delivered"),
            _ => matches!(state, "delivered" | "failed"),
        }
    }

    /// The next call of it, as JSON.
    pub fn call(&self, number: u64, chance: &mut fastrand::Rng) -> String {
        let words = match self.kind {
            Kind::TooLarge => MAX_CALL_BYTES / 4,
            _ => chance.usize(10..80),
        };
        let word = if self.kind == Kind::Unrenderable { "" } else { "plain" };
        json!({"context": {"n": number, "word": word}, "transcript": "word ".repeat(words)}).to_string()
    }

    /// Which agent's turn it is.
    pub fn next(chance: &mut fastrand::Rng) -> &'static Agent {
        let mut at = chance.u32(..1_000);
        AGENTS.iter().find(|agent| at.checked_sub(agent.share).map(|left| at = left).is_none()).unwrap_or(&AGENTS[0])
    }
}

/// Makes the schema, opens the receivers and publishes the actions.
pub async fn set(binary: &Path, url: &str, connection: &mut PgConnection, record: &Arc<Record>) {
    run(binary, url, &["migrate"]).await;
    for agent in &AGENTS {
        let address = open(agent.manner, record).await;
        publish(binary, url, agent, address, "default").await;
        if agent.kind == Kind::Twofold {
            publish(binary, url, agent, open(Manner::Slow, record).await, "second").await;
        }
    }
    sqlx::raw_sql(POISON).execute(connection).await.unwrap();
}

/// What somebody has done to the database that postcall would never do.
const POISON: &str = "
    ALTER TABLE postcall.action_version DISABLE TRIGGER versions_are_immutable;
    UPDATE postcall.action_version SET headers = '{not json'
        FROM postcall.action WHERE action.action_id = action_version.action_id AND agent = 'damaged';
    ALTER TABLE postcall.action_version ENABLE ALWAYS TRIGGER versions_are_immutable;
    ALTER TABLE postcall.delivery ADD CONSTRAINT an_operator_s CHECK (url NOT LIKE '%/refused-by-history%');
    ALTER TABLE postcall.sending ADD CONSTRAINT an_operator_s CHECK (agent <> 'unclaimable');";

/// What is undone at the end, so that everything can end.
pub const CURE: &str = "ALTER TABLE postcall.sending DROP CONSTRAINT IF EXISTS an_operator_s;
                        ALTER TABLE postcall.delivery DROP CONSTRAINT IF EXISTS an_operator_s";

async fn publish(binary: &Path, url: &str, agent: &Agent, address: SocketAddr, name: &str) {
    // Those that take requests may take long, because the machine may be busy or the dispatcher be paused.
    let timeout = if agent.manner == Manner::Hangs { 400 } else { 60_000 };
    let action = json!({"method": "POST", "url": format!("http://{address}/{}/${{context.word}}", agent.name),
                        "timeout": timeout, "headers": "{\"x-n\": \"${context.n}\"}", "body": "{\"n\": ${context.n}}"});
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), action.to_string()).unwrap();
    run(binary, url, &["action", "publish", agent.name, file.path().to_str().unwrap(), "--name", name]).await;
}

/// Runs a command of the program, which must succeed.
async fn run(binary: &Path, url: &str, arguments: &[&str]) {
    let mut command = tokio::process::Command::new(binary);
    let output = command.env("DATABASE_URL", url).args(arguments).output().await.unwrap();
    assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
}
