//! What all parts of a run share: what is asked for, how far it is, and what happened.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Instant;

use chrono::{DateTime, Utc};

use crate::arguments::Arguments;
use crate::members::Register;
use crate::receivers::Record;
use crate::servers::Ways;

/// A number that several parts count up.
#[derive(Default)]
pub struct Count(AtomicU64);

impl Count {
    pub fn add(&self, more: u64) {
        self.0.fetch_add(more, Ordering::Relaxed);
    }

    pub fn set(&self, number: u64) {
        self.0.store(number, Ordering::Relaxed);
    }

    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// What has happened so often.
#[derive(Default)]
pub struct Counts {
    /// Calls whose commit was acknowledged.
    pub calls: Count,
    pub kills: Count,
    pub pauses: Count,
    pub restarts: Count,
    pub cuts: Count,
    pub silences: Count,
    pub crashes: Count,
    pub failovers: Count,
    pub replays: Count,
    pub findings: Count,
    /// Deliveries that wait now.
    pub waiting: Count,
    /// Milliseconds for which the platform held its calls back, because too many waited.
    pub held_back_ms: Count,
    /// Memory of the dispatcher that is never killed, and the most that another one has, in bytes.
    pub steady_memory: Count,
    pub other_memory: Count,
}

/// The run.
pub struct Run {
    pub arguments: Arguments,
    pub record: Arc<Record>,
    pub register: Arc<Register>,
    pub ways: Ways,
    pub counts: Counts,
    pub began: Instant,
    /// From when to when the database, or the way to it, was gone.
    pub outages: Mutex<Vec<(DateTime<Utc>, DateTime<Utc>)>>,
    events: Mutex<VecDeque<(DateTime<Utc>, String)>>,
    over: AtomicBool,
}

/// Events that are kept for stories.
const EVENTS_KEPT: usize = 20_000;

impl Run {
    pub fn new(arguments: Arguments, record: Arc<Record>, ways: Ways) -> Run {
        Run {
            arguments,
            record,
            register: Arc::default(),
            ways,
            counts: Counts::default(),
            began: Instant::now(),
            outages: Mutex::default(),
            events: Mutex::default(),
            over: AtomicBool::new(false),
        }
    }

    /// How much of the stream of calls is over, from 0 to 1: by time or by calls, whichever is farther.
    pub fn done(&self) -> f64 {
        let time = self.began.elapsed().as_secs_f64() / self.arguments.time.as_secs_f64();
        let calls = self.counts.calls.get() as f64 / self.arguments.calls as f64;
        time.max(calls).min(1.0)
    }

    /// Whether the stream of calls has come to its end.
    pub fn is_over(&self) -> bool {
        self.over.load(Ordering::Relaxed)
    }

    pub fn end(&self) {
        self.over.store(true, Ordering::Relaxed);
    }

    /// Whether something that is to happen so often by the end is due once more.
    pub fn is_due(&self, often: u64, done: &Count) -> bool {
        // The last one comes before the end, so that all of them come.
        done.get() < often && done.get() as f64 + 1.0 <= self.done() * (often as f64 + 1.0)
    }

    /// Writes down what happened, for stories.
    pub fn happened(&self, what: impl Into<String>) {
        let mut events = self.events.lock().unwrap();
        events.push_back((Utc::now(), what.into()));
        if events.len() > EVENTS_KEPT {
            events.pop_front();
        }
    }

    /// What happened between two moments.
    pub fn events(&self, from: DateTime<Utc>, to: DateTime<Utc>) -> Vec<String> {
        let events = self.events.lock().unwrap();
        let within = events.iter().filter(|(at, _)| (from..=to).contains(at));
        within.map(|(at, what)| format!("{} {what}", at.format("%H:%M:%S%.3f"))).collect()
    }

    /// Random decisions of one part of the run.
    pub fn chance(&self, part: u64) -> fastrand::Rng {
        fastrand::Rng::with_seed(self.arguments.seed.wrapping_add(part << 32))
    }
}
