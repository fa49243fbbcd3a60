//! Programs that only a few tests need and that take long to build: whichever test needs one first has it built, and the
//! others wait. What is built is said on stderr.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::LazyLock;

use super::not_tested::{impossible, uninstalled};

/// What cargo tells a test about the test's own crate. The build of another program must not see it: some build scripts run
/// again when it changes, and the compiled crates could not be shared.
const OF_THIS_CRATE: [&str; 3] = ["CARGO_BIN_EXE_", "CARGO_MANIFEST_", "CARGO_PKG_"];

/// The program sqlx-cli, of the version in Cargo.lock (`scripts/install-sqlx-cli`).
pub fn sqlx() -> &'static Path {
    static PROGRAM: LazyLock<PathBuf> = LazyLock::new(|| {
        built(&mut Command::new("scripts/install-sqlx-cli"));
        root().join("target/tools/bin/sqlx")
    });
    &PROGRAM
}

/// The program of an earlier release, if `scripts/build-previous` can build it here.
pub fn earlier_release(version: &str) -> Option<PathBuf> {
    let path = built(Command::new("scripts/build-previous").arg(version));
    if path.is_empty() {
        // Where the history of the repository was not fetched as a whole, it cannot be built.
        impossible(&format!("upgrades from {version}; see scripts/build-previous"));
    }
    (!path.is_empty()).then(|| PathBuf::from(path))
}

/// Where Python finds the library standardwebhooks, if `scripts/install-standardwebhooks` can fetch it here.
pub fn python_library() -> Option<PathBuf> {
    static FETCHED: LazyLock<PathBuf> = LazyLock::new(|| {
        built(&mut Command::new("scripts/install-standardwebhooks"));
        root().join("target/tools/python")
    });
    let is_there = FETCHED.join("standardwebhooks").is_dir();
    if !is_there {
        uninstalled("Python's library standardwebhooks; see scripts/install-standardwebhooks");
    }
    is_there.then(|| FETCHED.clone())
}

/// A program of Prometheus, if `scripts/install-promtool` has fetched it or the machine has it.
pub fn of_prometheus(name: &str) -> Option<PathBuf> {
    let own = root().join("target/tools/bin").join(name);
    let directories = std::env::var_os("PATH").unwrap_or_default();
    let on_path = std::env::split_paths(&directories).map(|directory| directory.join(name));
    std::iter::once(own).chain(on_path).find(|path| path.exists())
}

/// The program of this file of `examples/`, in the same profile as the tests. `cargo test --test it` alone does not build it.
pub fn example(name: &str) -> PathBuf {
    static PROGRAMS: LazyLock<PathBuf> = LazyLock::new(|| {
        // The tests are in TARGET/PROFILE/deps.
        let tests = std::env::current_exe().unwrap();
        let outputs = tests.ancestors().nth(2).expect("the directory of a profile");
        let profile = outputs.file_name().and_then(|name| name.to_str()).expect("the name of a profile");
        let profile = if profile == "debug" { "dev" } else { profile };
        let target = outputs.parent().expect("a target directory");
        let mut cargo = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
        cargo.args(["build", "--locked", "--quiet", "--examples", "--profile", profile, "--target-dir"]);
        built(cargo.arg(target).env("SQLX_OFFLINE", "true"));
        outputs.join("examples")
    });
    PROGRAMS.join(name)
}

/// Runs the command of a build in the repository's root. It must succeed. What it printed on stdout.
fn built(command: &mut Command) -> String {
    for (name, _) in std::env::vars_os() {
        if OF_THIS_CRATE.iter().any(|start| name.to_string_lossy().starts_with(start)) {
            command.env_remove(name);
        }
    }
    // A build takes minutes, and the tests' own output is shown only at their end: stderr is that of the test program.
    let output = command.current_dir(root()).stdin(Stdio::null()).stderr(Stdio::inherit()).output().unwrap();
    assert!(output.status.success(), "{command:?}: {}", output.status);
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}
