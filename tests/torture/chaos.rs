//! Everything that goes wrong: to dispatchers, to connections and to the server.

use std::time::{Duration, Instant};

use chrono::Utc;
use nix::sys::signal::Signal;

use crate::members::{LEASE_MS, Member};
use crate::proxy::{End, Fate};
use crate::run::Run;
use crate::servers::Servers;

/// Dispatchers at the same time. The first one is never killed, so that its memory tells of the whole run.
const MEMBERS: usize = 3;
/// How often each thing happens, for each thousand kills; at least once.
const PAUSES: u64 = 100;
const RESTARTS: u64 = 50;
const CUTS: u64 = 500;
const SILENCES: u64 = 20;
const CRASHES: u64 = 40;
const FAILOVERS: u64 = 25;

/// How often something happens in a run with so many kills.
fn often(run: &Run, of_a_thousand: u64) -> u64 {
    (run.arguments.kills * of_a_thousand).div_ceil(1_000).max(1)
}

/// The dispatchers, and which of them stand still.
pub struct Fleet<'a> {
    run: &'a Run,
    members: Vec<Member>,
    /// Which of them stands still until when; one at a time.
    paused: Option<(usize, Instant)>,
    chance: fastrand::Rng,
    /// When one was last started because it had ended while the database was gone.
    restarted: Instant,
}

impl Fleet<'_> {
    pub fn start(run: &Run) -> Fleet<'_> {
        let mut fleet =
            Fleet { run, members: Vec::new(), paused: None, chance: run.chance(2), restarted: Instant::now() };
        for _ in 0..MEMBERS {
            fleet.members.push(fleet.new_member());
        }
        fleet
    }

    fn new_member(&self) -> Member {
        let run = self.run;
        Member::start(&run.arguments.binary, &run.ways.dispatchers_url(), &run.register)
    }

    /// Lets things go wrong until the stream of calls is over. Then all run again.
    pub async fn suffer(&mut self) {
        let run = self.run;
        let counts = &run.counts;
        while !run.is_over() {
            tokio::time::sleep(Duration::from_millis(self.chance.u64(20..400))).await;
            self.supervise();
            if run.is_due(run.arguments.kills, &counts.kills) {
                self.kill().await;
            } else if run.is_due(often(run, PAUSES), &counts.pauses) && self.paused.is_none() {
                self.pause();
            } else if run.is_due(often(run, CUTS), &counts.cuts) {
                self.cut().await;
            } else if run.is_due(often(run, RESTARTS), &counts.restarts) {
                self.restart().await;
            }
        }
        self.resume();
    }

    /// Looks after the dispatchers as an operator's system does: whatever has ended is started again.
    pub fn supervise(&mut self) {
        if self.paused.is_some_and(|(_, until)| until < Instant::now()) {
            self.resume();
        }
        if self.restarted.elapsed() > Duration::from_millis(500) {
            for at in 0..self.members.len() {
                if self.members[at].has_ended() {
                    self.run.happened(format!("dispatcher {at} had ended and was started again"));
                    self.members[at] = self.new_member();
                    self.restarted = Instant::now();
                }
            }
        }
        let memory = |member: &Member| if member.dispatches() { member.memory().unwrap_or(0) } else { 0 };
        self.run.counts.steady_memory.set(memory(&self.members[0]));
        self.run.counts.other_memory.set(self.members[1..].iter().map(memory).max().unwrap_or(0));
    }

    fn resume(&mut self) {
        if let Some((at, _)) = self.paused.take() {
            self.members[at].signal(Signal::SIGCONT);
            self.run.happened(format!("dispatcher {at} goes on"));
        }
    }

    async fn kill(&mut self) {
        let at = self.chance.usize(1..self.members.len());
        if self.paused.is_some_and(|(paused, _)| paused == at) {
            self.paused = None;
        }
        let next = self.new_member();
        std::mem::replace(&mut self.members[at], next).kill().await;
        self.run.counts.kills.add(1);
        self.run.happened(format!("dispatcher {at} was killed"));
    }

    fn pause(&mut self) {
        let at = self.chance.usize(..self.members.len());
        let length = Duration::from_millis(self.chance.u64(LEASE_MS / 2..LEASE_MS * 2));
        self.members[at].mark(|life| life.paused = true);
        self.members[at].signal(Signal::SIGSTOP);
        self.paused = Some((at, Instant::now() + length));
        self.run.counts.pauses.add(1);
        self.run.happened(format!("dispatcher {at} stands still for {} ms", length.as_millis()));
    }

    async fn restart(&mut self) {
        let at = self.chance.usize(1..self.members.len());
        if self.paused.is_some_and(|(paused, _)| paused == at) || !self.members[at].dispatches() {
            return;
        }
        let next = self.new_member();
        let old = std::mem::replace(&mut self.members[at], next);
        self.run.counts.restarts.add(1);
        self.run.happened(format!("dispatcher {at} was told to stop, and another one started"));
        old.retire().await;
    }

    /// Cuts connections to the database, or loses one statement or one answer.
    async fn cut(&mut self) {
        let ways = &self.run.ways;
        let markers = ["DELETE FROM postcall.waiting", "WITH done AS", "INSERT INTO postcall.waiting", "lease_until"];
        let marker = markers[self.chance.usize(..markers.len())];
        let what = match self.chance.u8(..8) {
            0 => {
                ways.dispatchers.cut_all(End::Reset);
                "the dispatchers' connections were reset".to_owned()
            }
            1 => {
                ways.others.cut_all(End::Close);
                "the platform's connection was closed".to_owned()
            }
            2 => {
                let half = self.chance.u8(..2);
                let sql = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity
                           WHERE datname = 'postcall' AND application_name = 'postcall' AND pid % 2 = $1";
                if let Ok(mut connection) = ways.connect().await {
                    sqlx::query(sql).bind(i32::from(half)).execute(&mut connection).await.ok();
                }
                "half of the sessions were terminated".to_owned()
            }
            3..6 => {
                ways.dispatchers.once(marker, Fate::LoseAnswer);
                format!("the next answer to `{marker}` is lost")
            }
            _ => {
                ways.dispatchers.once(marker, Fate::LoseStatement);
                format!("the next `{marker}` is lost")
            }
        };
        self.run.counts.cuts.add(1);
        self.run.happened(what);
    }

    /// Stops all of them in good order.
    pub async fn retire_all(&mut self) {
        for member in self.members.drain(..) {
            member.retire().await;
        }
    }
}

/// Lets servers crash and fail over until the stream of calls is over. Then the primary runs.
pub async fn of_servers(run: &Run, servers: &mut Servers) {
    let mut chance = run.chance(3);
    let counts = &run.counts;
    while !run.is_over() {
        tokio::time::sleep(Duration::from_millis(chance.u64(50..800))).await;
        let began = Utc::now();
        if run.is_due(often(run, FAILOVERS), &counts.failovers) {
            run.happened("the primary dies, and the standby takes its place");
            servers.fail_over().await;
            counts.failovers.add(1);
            run.outages.lock().unwrap().push((began, Utc::now()));
            run.happened("the standby has taken the primary's place");
            let began = Utc::now();
            servers.follow().await;
            // What commits at the moment when the new standby takes up its work waits for it.
            run.outages.lock().unwrap().push((began, Utc::now()));
            run.happened("there is a new standby");
        } else if run.is_due(often(run, CRASHES), &counts.crashes) {
            let how = servers.crash(chance.u8(..)).await;
            counts.crashes.add(1);
            run.outages.lock().unwrap().push((began, Utc::now()));
            run.happened(how);
        } else if run.is_due(often(run, SILENCES), &counts.silences) {
            run.ways.dispatchers.hold_back(true);
            run.happened("the dispatchers' network goes silent");
            tokio::time::sleep(Duration::from_millis(chance.u64(LEASE_MS / 4..LEASE_MS * 3 / 2))).await;
            run.ways.dispatchers.hold_back(false);
            run.ways.dispatchers.cut_all(End::Reset);
            counts.silences.add(1);
            run.outages.lock().unwrap().push((began, Utc::now()));
            run.happened("the dispatchers' network is back");
        }
    }
}
