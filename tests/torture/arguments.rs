//! What the run is told.

use std::path::PathBuf;
use std::time::Duration;

/// The name of the short run, for who selects tests by name.
pub const SHORT_RUN: &str = "torture::a_short_run_keeps_every_promise";

/// What is run.
#[derive(Clone, Debug)]
pub struct Arguments {
    /// The most time for the stream of calls. What waits then is still sent.
    pub time: Duration,
    /// The most calls.
    pub calls: u64,
    /// How many dispatchers are killed. The other faults are in proportion.
    pub kills: u64,
    /// Calls a second that the platform tries to insert.
    pub rate: u32,
    /// Decides what is left to chance.
    pub seed: u64,
    /// The program under test.
    pub binary: PathBuf,
    /// Whether this is the run that belongs to the suite: after its checks, forged books must be refused.
    pub is_short: bool,
}

/// What the command line asks for.
pub enum Asked {
    Run(Arguments),
    /// Only the name of the test is wanted, or the test is not meant.
    Nothing,
}

const USAGE: &str =
    "usage: --minutes N --calls N --kills N --rate N --seed N; without any of them, the short run of the suite";

impl Arguments {
    /// Reads the command line. Without an option of its own, this is a test among others, and takes names as libtest does.
    pub fn read() -> Asked {
        let mut arguments = Arguments::short();
        let (mut names, mut lists) = (Vec::new(), false);
        let mut words = std::env::args().skip(1);
        while let Some(word) = words.next() {
            let long = matches!(word.as_str(), "--minutes" | "--calls" | "--kills" | "--rate" | "--seed");
            if long {
                let number = words.next().and_then(|number| number.parse::<u64>().ok()).expect(USAGE);
                arguments.set(&word, number);
            } else if matches!(word.as_str(), "--test-threads" | "--skip" | "--format" | "--color") {
                words.next();
            } else if word == "--list" {
                lists = true;
            } else if !word.starts_with('-') {
                names.push(word);
            }
        }
        if lists {
            println!("{SHORT_RUN}: test");
        }
        let is_meant = names.is_empty() || names.iter().any(|name| SHORT_RUN.contains(name.as_str()));
        if lists || !is_meant { Asked::Nothing } else { Asked::Run(arguments) }
    }

    fn short() -> Arguments {
        let seed = std::env::var("POSTCALL_TEST_SEED").ok().map(|seed| seed.parse().expect("a number"));
        let binary =
            std::env::var_os("POSTCALL_TORTURE_BINARY").unwrap_or_else(|| env!("CARGO_BIN_EXE_postcall").into());
        Arguments {
            time: Duration::from_secs(18),
            calls: 1_500,
            kills: 6,
            rate: 100,
            seed: seed.unwrap_or_else(|| fastrand::u64(..u64::from(u32::MAX))),
            binary: binary.into(),
            is_short: true,
        }
    }

    /// The first option of its own makes it the long run.
    fn set(&mut self, option: &str, number: u64) {
        if std::mem::take(&mut self.is_short) {
            (self.time, self.calls, self.kills, self.rate) = (Duration::from_secs(60 * 60), 1_000_000, 1_000, 330);
        }
        match option {
            "--minutes" => self.time = Duration::from_secs(60 * number),
            "--calls" => self.calls = number,
            "--kills" => self.kills = number,
            "--rate" => self.rate = u32::try_from(number).expect(USAGE).max(1),
            _ => self.seed = number,
        }
    }
}
