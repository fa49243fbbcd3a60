//! Completions and manual pages: each shell has a script, bash accepts its own, and each command has a page.

use std::io::Write;
use std::process::{Command, Stdio};

use crate::support::process::{postcall, stderr, stdout};

fn printed(arguments: &[&str]) -> String {
    let output = postcall(arguments);
    assert!(output.status.success(), "{arguments:?}: {}", stderr(&output));
    stdout(&output)
}

#[test]
fn each_shell_has_a_script_that_names_the_commands_and_bash_accepts_its_own() {
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        let script = printed(&["completions", shell]);
        assert!(script.contains("check-invariants") && script.contains("reason"), "{shell}");
    }
    assert_eq!(postcall(&["completions", "csh"]).status.code(), Some(2));
    let Ok(mut bash) = Command::new("bash").arg("-n").stdin(Stdio::piped()).spawn() else { return };
    bash.stdin.take().unwrap().write_all(printed(&["completions", "bash"]).as_bytes()).unwrap();
    assert!(bash.wait().unwrap().success(), "bash does not accept its script");
}

#[test]
fn whoever_names_no_database_is_told_of_the_variable() {
    for arguments in [
        &["history"][..],
        &["status"],
        &["calls"],
        &["action", "list"],
        &["replay", "--state", "failed", "--reason", "r"],
    ] {
        let output = postcall(arguments);
        assert_eq!(output.status.code(), Some(2));
        let told = stderr(&output);
        assert!(
            told.contains("--database-url <URL>") && told.contains("tip: the variable DATABASE_URL says it, too"),
            "{told}"
        );
    }
}

#[test]
fn each_command_has_a_manual_page() {
    assert!(printed(&["man"]).contains(".TH postcall 1"));
    let page = printed(&["man", "action", "publish"]);
    assert!(page.contains(".TH postcall-action-publish 1") && page.contains("newest version"), "{page}");
    let output = postcall(&["man", "action", "nonsense"]);
    assert_eq!(output.status.code(), Some(1));
    assert!(stderr(&output).contains("there is no command `action nonsense`"), "{}", stderr(&output));
}
