//! An error says its own part only. Whoever prints or logs one asks for its causes, too.

use std::path::Path;

/// The ways to log an error by its own text alone. Right is `error = %chain(&error)`.
const WITHOUT_CAUSES: [&str; 6] = ["%error", "%refusal", "%failure", "?error", "?refusal", "?failure"];

fn lines_without_causes(directory: &Path, found: &mut Vec<String>) {
    for entry in std::fs::read_dir(directory).unwrap().map(Result::unwrap) {
        let path = entry.path();
        if path.is_dir() {
            lines_without_causes(&path, found);
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
