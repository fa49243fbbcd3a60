//! An error says its own part only. Whoever prints or logs one asks for its causes, too.

use std::fs::File;
use std::path::Path;
use std::process::Command;

use crate::support::process::{POSTCALL, stderr};

/// The ways to log an error by its own text alone. Right is `error = %chain(&error)`.
const WITHOUT_CAUSES: [&str; 6] = ["%error", "%refusal", "%failure", "?error", "?refusal", "?failure"];

fn lines_without_causes(directory: &Path, found: &mut Vec<String>) {
    for entry in std::fs::read_dir(directory).unwrap().map(Result::unwrap) {
        let path = entry.path();
        if path.is_dir() {
            lines_without_causes(&path, found);
            continue;
        }
        if path.extension().is_none_or(|extension| extension != "rs") {
            continue;
        }
        let text = std::fs::read_to_string(&path).unwrap();
        let lines = text.lines().enumerate().filter(|(_, line)| WITHOUT_CAUSES.iter().any(|way| line.contains(way)));
        found.extend(lines.map(|(number, line)| format!("{}:{}: {}", path.display(), number + 1, line.trim())));
    }
}

#[test]
fn no_error_is_logged_without_its_causes() {
    let mut found = Vec::new();
    lines_without_causes(&Path::new(env!("CARGO_MANIFEST_DIR")).join("src"), &mut found);
    assert!(found.is_empty(), "log it by domain::chain:\n{}", found.join("\n"));
}

/// Nothing can be written to `/dev/full`.
#[test]
fn output_that_cannot_be_written_is_told_as_that() {
    let full = File::options().write(true).open("/dev/full").unwrap();
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(&file, r#"{"method": "POST", "url": "https://api.example.com/hook"}"#).unwrap();
    let output = Command::new(POSTCALL).args(["action", "check"]).arg(file.path()).stdout(full).output().unwrap();
    let words = stderr(&output);
    assert_eq!(output.status.code(), Some(1), "{words}");
    assert!(words.starts_with("postcall: cannot write the output: No space left on device"), "{words}");
}
