//! Completions and manual pages: each shell has a script, bash accepts its own, and each command has a page. And the script that says
//! what could not be tested.

use std::io::Write;
use std::process::{Command, Stdio};

use crate::support::process::{file, postcall, stderr, stdout};
use crate::support::sources::root;

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

#[test]
fn what_was_not_tested_is_said_at_the_end_and_is_a_failure_where_a_script_installs_what_is_missing() {
    let said = |lines: &str| {
        let file = file(lines);
        let output = Command::new(root().join("scripts/not-tested")).arg(file.path()).output().unwrap();
        (output.status.code(), stdout(&output))
    };
    assert_eq!(said(""), (Some(0), String::new()));
    let (status, text) = said("impossible: a full disk\nimpossible: a full disk\n");
    assert_eq!((status, text.matches("a full disk").count()), (Some(0), 1), "{text}");
    let (status, text) = said("impossible: a full disk\nuninstalled: pages in a browser\n");
    assert_eq!(status, Some(1), "{text}");
    assert!(text.contains("NOT TESTED") && text.contains("pages in a browser"), "{text}");
}

/// Whoever prints it elsewhere is heard by nobody: cargo shows nothing of a test that passes.
#[test]
fn each_test_that_could_not_be_made_says_so_where_ci_reads_it() {
    let words = ["NOT", "TESTED: "].join(" ");
    let mut directories = vec![root().join("tests")];
    let mut found = Vec::new();
    while let Some(directory) = directories.pop() {
        for entry in std::fs::read_dir(directory).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() && !path.ends_with("target") {
                directories.push(path);
            } else if path.extension().is_some_and(|end| end == "rs")
                && std::fs::read_to_string(&path).unwrap().contains(&words)
            {
                found.push(path.file_name().unwrap().to_owned());
            }
        }
    }
    assert_eq!(found, ["not_tested.rs"]);
    let ci = std::fs::read_to_string(root().join(".ci/run")).unwrap();
    let last = ci.trim_end().lines().last().unwrap();
    assert!(last.starts_with("scripts/not-tested "), "the last thing that it does: {last}");
}
