//! Servers of a scene's own, which it can stop, freeze and replace by their standbys. They are those of the tests.

#[expect(clippy::disallowed_methods, reason = "whoever drops a server waits for its end")]
#[expect(dead_code, reason = "the tests use more of it")]
#[path = "../../tests/it/support/cluster.rs"]
mod cluster;
#[expect(dead_code, reason = "the tests use more of it")]
#[path = "../../tests/it/support/database.rs"]
mod database;
#[path = "../../tests/it/support/not_tested.rs"]
mod not_tested;
#[expect(dead_code, reason = "the tests use more of it")]
#[path = "../../tests/it/support/proxy.rs"]
mod proxy;
#[expect(dead_code, reason = "the tests use more of it")]
#[path = "../../tests/it/support/tools.rs"]
mod tools;
#[path = "../../tests/it/support/wire.rs"]
mod wire;

use cluster::Cluster;
use proxy::{End, Proxy};

/// The name of each server's database.
const DATABASE: &str = "shard";

/// A server with a synchronous standby, and the way to whichever of them is the primary.
struct Pair {
    primary: Cluster,
    standby: Cluster,
    /// By which the standby follows.
    line: Proxy,
    way: Proxy,
}

/// Three servers, each with a database.
pub struct Shards {
    stopped: Cluster,
    frozen: Cluster,
    failing_over: Pair,
}

impl Shards {
    /// Three that work.
    pub async fn start() -> Shards {
        let (stopped, frozen, primary) = (Cluster::start().await, Cluster::start().await, Cluster::start().await);
        for server in [&stopped, &frozen, &primary] {
            server.execute(&format!("CREATE DATABASE {DATABASE}")).await;
        }
        let line = Proxy::of_bytes(&primary.address()).await;
        let standby = primary.synchronous_standby(&line).await;
        let way = Proxy::of_bytes(&primary.address()).await;
        Shards { stopped, frozen, failing_over: Pair { primary, standby, line, way } }
    }

    /// The URL of each one's database.
    pub fn urls(&self) -> [String; 3] {
        let Pair { primary, way, .. } = &self.failing_over;
        [self.stopped.url_of(DATABASE), self.frozen.url_of(DATABASE), way.url_of(&primary.url_of(DATABASE))]
    }

    /// The first stops at once. The second stands still, with all connections open. The network of the third's standby goes silent,
    /// the primary dies, and the standby takes its place.
    pub async fn break_down(&mut self) {
        self.stopped.stop_immediately().await;
        self.frozen.freeze();
        let Pair { primary, standby, line, way } = &mut self.failing_over;
        line.hold_back(true);
        primary.stop_immediately().await;
        standby.promote().await;
        way.switch_to(&standby.address());
        way.cut_all(End::Reset);
    }
}
