//! Key files, secrets, and dispatchers that open them.

use std::os::unix::fs::PermissionsExt;
use std::process::{Output, Stdio};

use super::database::Database;
use super::process::{Dispatcher, POSTCALL, file, postcall, stderr, stdout};

/// A key file with these keys.
pub fn key_file(keys: &[&str]) -> tempfile::NamedTempFile {
    let file = file(&keys.join(""));
    std::fs::set_permissions(file.path(), PermissionsExt::from_mode(0o600)).unwrap();
    file
}

/// A new key, as a line of a key file.
pub fn new_key() -> String {
    stdout(&postcall(&["secret", "new-key"]))
}

/// Runs `postcall secret …` with this key file and standard input.
pub fn secret(url: &str, keys: &tempfile::NamedTempFile, arguments: &[&str], input: &str) -> Output {
    use std::io::Write;
    let mut command = std::process::Command::new(POSTCALL);
    command.env("DATABASE_URL", url).env("POSTCALL_KEY_FILE", keys.path()).arg("secret").args(arguments);
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    // Who refuses its arguments does not read.
    child.stdin.take().unwrap().write_all(input.as_bytes()).ok();
    child.wait_with_output().unwrap()
}

/// Sets a secret.
pub fn set(database: &Database, keys: &tempfile::NamedTempFile, agent: &str, name: &str, value: &str) {
    let output = secret(&database.url, keys, &["set", agent, name, "--by", "Ada"], value);
    assert!(output.status.success(), "{}", stderr(&output));
}

/// A dispatcher with this key file.
pub async fn started(database: &Database, keys: &tempfile::NamedTempFile) -> Dispatcher {
    Dispatcher::start(database, &["--key-file", keys.path().to_str().unwrap()]).await
}
