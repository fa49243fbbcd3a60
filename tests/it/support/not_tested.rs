//! What could not be tested on this machine. cargo shows nothing of a test that passes, so it is also written into the file that
//! POSTCALL_NOT_TESTED names: `.ci/run` shows that file at its end (`scripts/not-tested`).

use std::fs::OpenOptions;
use std::io::Write;

/// A program is missing that a script of this repository installs. `.ci/run` fails.
pub fn uninstalled(what: &str) {
    say("uninstalled", what);
}

/// This machine cannot do it, or this user may not. `.ci/run` says so at its end.
pub fn impossible(what: &str) {
    say("impossible", what);
}

fn say(why: &str, what: &str) {
    println!("NOT TESTED: {what}");
    let Some(path) = std::env::var_os("POSTCALL_NOT_TESTED") else { return };
    // One write, so that the lines of tests that run side by side do not mix.
    let mut file = OpenOptions::new().create(true).append(true).open(path).unwrap();
    file.write_all(format!("{why}: {what}\n").as_bytes()).unwrap();
}
