//! The receiver. It is a process of its own ([`server`]), so that its cost can be measured separately. This module
//! holds the benchmark's side of the pipes to it. The receiver listens on all addresses of 127.0.0.0/8, so there are as
//! many hosts as needed. The path of a request says what the receiver does with it.

use std::collections::{HashMap, HashSet};
use std::io::{BufRead, BufReader, Write};
use std::net::{Ipv4Addr, SocketAddr};
use std::ops::Range;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use uuid::Uuid;

use crate::{clock, process};

#[expect(dead_code, reason = "names and outcomes are for the tests")]
#[path = "../../../tests/it/support/hostile.rs"]
pub mod hostile;
pub mod server;

/// How often the receiver is asked how many requests have arrived.
const ASKING: Duration = Duration::from_millis(5);
/// How often the receiver is asked the same for a range of lanes, which costs it more.
const ASKING_LANES: Duration = Duration::from_millis(50);
/// How long no request may arrive while some are expected.
const SILENCE: Duration = Duration::from_secs(30);

/// What the receiver does with a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Behaviour {
    /// It answers 200 at once.
    Answer,
    /// It answers 200 after this time.
    AnswerAfter(Duration),
    /// It never answers.
    Hang,
    /// Each host plays another trick of [`hostile::ALL`].
    Hostile,
}

/// One request that arrived.
#[derive(Clone, Copy, Debug)]
pub struct Arrival {
    /// Its `webhook-id`.
    pub message: Uuid,
    /// The call's number ([`crate::calls::nth`]).
    pub call: u64,
    /// The lane in its path.
    pub lane: usize,
    /// When the request was complete.
    pub at: Instant,
}

/// How many requests arrived, and when.
#[derive(Clone, Copy, Debug)]
pub struct Count {
    /// How many requests arrived.
    pub total: usize,
    /// When the first request arrived. It has no meaning if none arrived.
    pub first: Instant,
    /// When the last request arrived. It has no meaning if none arrived.
    pub last: Instant,
}

/// A running receiver. It ends when this value is dropped.
pub struct Receiver {
    child: Child,
    address: SocketAddr,
    pipes: Mutex<Pipes>,
}

struct Pipes {
    commands: ChildStdin,
    answers: BufReader<ChildStdout>,
}

impl Pipes {
    fn ask(&mut self, command: &str) -> String {
        writeln!(self.commands, "{command}").unwrap();
        self.line()
    }

    fn line(&mut self) -> String {
        let mut line = String::new();
        assert_ne!(self.answers.read_line(&mut line).unwrap(), 0, "the receiver has ended");
        line.trim_end().to_owned()
    }
}

impl Receiver {
    /// Starts a receiver on a free port, for every address of this machine.
    pub fn start() -> Receiver {
        // The first call sets the clock's anchor, which must come before all moments that are measured.
        clock::instant(clock::now_ns());
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--bench", "--receiver"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let (commands, answers) = (child.stdin.take().unwrap(), BufReader::new(child.stdout.take().unwrap()));
        let mut pipes = Pipes { commands, answers };
        let address = pipes.ask("listen 0.0.0.0:0").parse().unwrap();
        Receiver { child, address, pipes: Mutex::new(pipes) }
    }

    /// The URL at which it answers at once.
    pub fn url(&self) -> String {
        self.url_of(Behaviour::Answer, Ipv4Addr::LOCALHOST, 0)
    }

    /// The URL, on a host of 127.0.0.0/8, at which it shows this behaviour. The URL holds the number of the lane.
    pub fn url_of(&self, behaviour: Behaviour, host: Ipv4Addr, lane: usize) -> String {
        url(behaviour, SocketAddr::new(host.into(), self.address.port()), lane)
    }

    /// Listens on another address, which can be closed. The receiver chooses the port if it is 0.
    pub fn open(&self, address: SocketAddr) -> SocketAddr {
        self.ask(&format!("listen {address}")).parse().unwrap()
    }

    /// Opens a host that plays the trick of this number on each connection, and returns its URL. What arrives there is not
    /// counted. It should be another process than the one whose requests are measured, which it would hold up.
    pub fn open_hostile(&self, host: Ipv4Addr, number: usize) -> String {
        let number = number % hostile::ALL.len();
        let address = self.ask(&format!("hostile {number} {host}:0"));
        format!("{}://{address}/", hostile::ALL[number].scheme)
    }

    /// Closes an address that was opened, with all its connections. New connections are then refused.
    pub fn close(&self, address: SocketAddr) {
        self.ask(&format!("close {address}"));
    }

    /// The CPU seconds that it has used so far.
    pub fn cpu_seconds(&self) -> f64 {
        process::cpu_seconds(self.child.id())
    }

    /// How many requests have arrived, and when.
    pub fn counted(&self) -> Count {
        count(&self.ask("count"))
    }

    /// How many requests have arrived for these lanes, and when.
    pub fn counted_of(&self, lanes: &Range<usize>) -> Count {
        count(&self.ask(&format!("lanes {} {}", lanes.start, lanes.end)))
    }

    /// How many requests have arrived so far.
    pub fn count(&self) -> usize {
        self.counted().total
    }

    /// Waits until `count` requests have arrived for these lanes, or until `patience` is over. Returns what has
    /// arrived.
    pub async fn waits_for(&self, lanes: &Range<usize>, count: usize, patience: Duration) -> Count {
        let began = Instant::now();
        loop {
            let now = self.counted_of(lanes);
            if now.total >= count || began.elapsed() >= patience {
                return now;
            }
            tokio::time::sleep(ASKING_LANES).await;
        }
    }

    /// Waits until `count` requests have arrived. Panics if none arrives for half a minute.
    pub async fn has(&self, count: usize) {
        let mut seen = (self.count(), Instant::now());
        while seen.0 < count {
            tokio::time::sleep(ASKING).await;
            let now = self.count();
            if now > seen.0 {
                seen = (now, Instant::now());
            }
            assert!(seen.1.elapsed() < SILENCE, "LOST: {} of {count} requests arrived", seen.0);
        }
    }

    /// When each message arrived. Panics if a message arrived twice, or if there are not exactly `count` messages.
    pub fn arrivals(&self, count: usize) -> HashMap<Uuid, Instant> {
        let by_message: HashMap<Uuid, Instant> = self.all().iter().map(|one| (one.message, one.at)).collect();
        assert_eq!(by_message.len(), count, "LOST: as many messages have to arrive as were committed");
        by_message
    }

    /// All requests that arrived, in order. Panics if a message arrived twice.
    pub fn all(&self) -> Vec<Arrival> {
        let mut pipes = self.pipes.lock().unwrap_or_else(PoisonError::into_inner);
        let mut line = pipes.ask("arrivals");
        let mut arrivals = Vec::new();
        while line != "end" {
            arrivals.push(arrival(&line));
            line = pipes.line();
        }
        let messages: HashSet<Uuid> = arrivals.iter().map(|one| one.message).collect();
        assert_eq!(messages.len(), arrivals.len(), "DOUBLED: a message arrived more than once");
        arrivals
    }

    /// Forgets what has arrived.
    pub fn forget(&self) {
        self.ask("forget");
    }

    /// From now on, only counts requests, and no longer keeps each of them. This is for long runs.
    pub fn count_only(&self) {
        self.ask("count-only");
    }

    fn ask(&self, command: &str) -> String {
        self.pipes.lock().unwrap_or_else(PoisonError::into_inner).ask(command)
    }
}

impl Drop for Receiver {
    fn drop(&mut self) {
        // The process has nothing to clean up, and may have ended already.
        let _gone = self.child.kill();
        let _reaped = self.child.wait();
    }
}

/// The URL, at this address, at which a receiver shows this behaviour.
pub fn url(behaviour: Behaviour, address: SocketAddr, lane: usize) -> String {
    match behaviour {
        Behaviour::Answer => format!("http://{address}/answer/{lane}"),
        Behaviour::AnswerAfter(delay) => format!("http://{address}/delay/{}/{lane}", delay.as_millis()),
        Behaviour::Hang => format!("http://{address}/hang/{lane}"),
        Behaviour::Hostile => panic!("a hostile host is opened for itself"),
    }
}

/// A host of 127.0.0.0/8 for each number up to a million. It is never 127.0.0.x.
pub fn host(number: usize) -> Ipv4Addr {
    let part = |number: usize| u8::try_from(number % 250 + 1).unwrap();
    Ipv4Addr::new(127, part(number / 62_500), part(number / 250), part(number))
}

fn arrival(line: &str) -> Arrival {
    let mut parts = line.split(' ');
    let mut next = || parts.next().unwrap();
    let (message, call, lane, at_ns): (&str, &str, &str, &str) = (next(), next(), next(), next());
    Arrival {
        message: message.parse().unwrap(),
        call: call.parse().unwrap(),
        lane: lane.parse().unwrap(),
        at: clock::instant(at_ns.parse().unwrap()),
    }
}

fn count(answer: &str) -> Count {
    let mut numbers = answer.split(' ').map(|number| number.parse::<u64>().unwrap());
    let mut next = || numbers.next().unwrap();
    Count { total: usize::try_from(next()).unwrap(), first: clock::instant(next()), last: clock::instant(next()) }
}
