//! What is shipped to run postcall (deploy/, docs/installing.md): its settings, commands, versions, ports and times are those of the
//! program. `scripts/check-deploy` checks the files by the tools of their formats.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use crate::support::process::{postcall, stdout};
use crate::support::sources::root;

const DOCKERFILE: &str = "deploy/docker/Dockerfile";
const COMPOSE: &str = "deploy/compose.yaml";
const UNIT: &str = "deploy/systemd/postcall.service";
const CONSOLE_UNIT: &str = "deploy/systemd/postcall-console.service";
const DISPATCHER: &str = "deploy/kubernetes/dispatcher.yaml";
const NETWORK: &str = "deploy/kubernetes/network.yaml";
const INSTALLING: &str = "docs/installing.md";
/// What the last writes may take after the drain time (docs/operating.md).
const LAST_WRITES_S: u64 = 10;
/// So many of each there are at least, so that a changed format does not hide them from these tests.
const SETTINGS: usize = 12;
const IMAGES: usize = 5;

fn read(path: impl AsRef<Path>) -> String {
    std::fs::read_to_string(root().join(&path)).unwrap_or_else(|error| panic!("{}: {error}", path.as_ref().display()))
}

/// All files below deploy/ that say how to run the program, with their texts.
fn shipped() -> Vec<(PathBuf, String)> {
    let (mut files, mut directories) = (Vec::new(), vec![root().join("deploy")]);
    while let Some(directory) = directories.pop() {
        for entry in std::fs::read_dir(directory).unwrap().map(Result::unwrap) {
            match entry.file_type().unwrap().is_dir() {
                true if ["grafana", "prometheus"].iter().any(|of_others| entry.file_name() == *of_others) => {}
                true => directories.push(entry.path()),
                false => files.push((entry.path(), read(entry.path()))),
            }
        }
    }
    assert!(files.len() > 8, "{files:?}");
    files
}

fn help(command: &str) -> String {
    stdout(&postcall(&[command, "--help"]))
}

/// The words of a text that begin so, up to the first character that no name has.
fn names<'a>(text: &'a str, prefix: &'a str) -> impl Iterator<Item = &'a str> {
    let ends = |c: char| !(c.is_ascii_alphanumeric() || c == '_' || c == '-');
    text.match_indices(prefix).map(move |(start, _)| text[start..].split(ends).next().unwrap_or_default())
}

/// What follows `key` on its line, without quotes.
fn value<'a>(text: &'a str, key: &str) -> Option<&'a str> {
    let rest = text.lines().find_map(|line| Some(line.trim().split_once(key)?.1))?;
    Some(rest.trim().trim_matches(['"', '}', ' ']))
}

/// The default that the help of a command states for this variable.
fn default<'a>(help: &'a str, variable: &str) -> &'a str {
    let (_, rest) = help.split_once(&format!("[env: {variable}=]")).expect(variable);
    rest.split_once("[default: ").and_then(|(_, rest)| rest.split(']').next()).expect(variable)
}

#[test]
fn every_variable_and_command_of_the_shipped_files_is_the_program_s() {
    let known: String = ["run", "console", "migrate", "action"].map(help).concat();
    let commands = stdout(&postcall(&["--help"]));
    let own = BTreeSet::from(["POSTCALL_PASSWORD"]);
    let mut count = 0;
    for (path, text) in shipped() {
        for variable in names(&text, "POSTCALL_").filter(|name| !own.contains(name) && *name != "POSTCALL_") {
            assert!(known.contains(&format!("[env: {variable}=]")), "{}: {variable}", path.display());
            count += 1;
        }
        let started = ["command: [", "args: [", "CMD [\"", "/usr/local/bin/postcall "];
        for line in text.lines().filter(|line| !line.trim_start().starts_with('#')) {
            let word = started.iter().find_map(|start| line.split_once(start)).map(|(_, rest)| rest);
            let word = word.and_then(|rest| rest.split([',', ']', '"', ' ']).next()).unwrap_or_default();
            if !word.is_empty() && word.chars().all(|c| c.is_ascii_lowercase()) && word != "psql" {
                assert!(commands.contains(&format!("\n  {word} ")), "{}: {word}", path.display());
            }
        }
    }
    assert!(count >= SETTINGS, "{count}");
}

#[test]
fn every_version_is_that_of_the_program() {
    let version = env!("CARGO_PKG_VERSION");
    let mut count = 0;
    let documented = PathBuf::from(INSTALLING);
    for (path, text) in shipped().into_iter().chain([(documented.clone(), read(&documented))]) {
        for (start, found) in text.match_indices("postcall:") {
            let tag = text[start + found.len()..].split_whitespace().next().unwrap_or_default();
            if tag.starts_with(|c: char| c.is_ascii_digit()) {
                assert_eq!(tag, version, "{}", path.display());
                count += 1;
            }
        }
        for job in names(&text, "postcall-migrate-") {
            assert_eq!(job, format!("postcall-migrate-{}", version.replace('.', "-")), "{}", path.display());
        }
    }
    assert!(count >= IMAGES, "{count}");
    let dockerfile = read(DOCKERFILE);
    assert!(dockerfile.contains(&format!("image.version=\"{version}\"")));
    let rust = env!("CARGO_PKG_RUST_VERSION");
    assert!(dockerfile.contains(&format!("FROM rust:{rust}-slim-")), "rust-version is {rust}");
}

#[test]
fn whoever_stops_a_dispatcher_gives_it_the_drain_time_and_the_last_writes() {
    let drain: u64 = default(&help("run"), "POSTCALL_DRAIN_TIMEOUT_MS").parse::<u64>().unwrap() / 1000;
    let compose = read(COMPOSE);
    let kubernetes = read(DISPATCHER);
    for (place, given) in [
        (UNIT, value(&read(UNIT), "TimeoutStopSec=").unwrap().to_owned()),
        (COMPOSE, value(&compose, "stop_grace_period:").unwrap().trim_end_matches('s').to_owned()),
        (DISPATCHER, value(&kubernetes, "terminationGracePeriodSeconds:").unwrap().to_owned()),
        (INSTALLING, value(&read(INSTALLING), "docker stop --timeout").unwrap().split('`').next().unwrap().to_owned()),
    ] {
        assert_eq!(given.parse::<u64>().unwrap(), drain + LAST_WRITES_S, "{place}");
    }
    let set = value(&kubernetes, "POSTCALL_DRAIN_TIMEOUT_MS, value:").unwrap();
    assert_eq!(set.trim_matches('"').parse::<u64>().unwrap(), drain * 1000);
}

#[test]
fn the_ports_agree_and_the_console_listens_where_the_program_does() {
    let (compose, kubernetes, network) = (read(COMPOSE), read(DISPATCHER), read(NETWORK));
    let port = value(&compose, "POSTCALL_METRICS_LISTEN:").unwrap().rsplit(':').next().unwrap().to_owned();
    for (text, expected) in [
        (&compose, format!("127.0.0.1:{port}:{port}")),
        (&kubernetes, format!("value: \"0.0.0.0:{port}\"")),
        (&kubernetes, format!("name: metrics, containerPort: {port}")),
        (&kubernetes, format!("prometheus.io/port: \"{port}\"")),
        (&network, format!("port: {port}}}")),
        (&read(DOCKERFILE), format!("EXPOSE {port}\n")),
        (&read("deploy/systemd/postcall.env.example"), format!("POSTCALL_METRICS_LISTEN=127.0.0.1:{port}\n")),
    ] {
        assert!(text.contains(&expected), "{expected} is missing in:\n{text}");
    }
    let console = help("console");
    let listens = default(&console, "POSTCALL_CONSOLE_LISTEN");
    assert_eq!(value(&compose, "POSTCALL_CONSOLE_LISTEN:"), Some(listens));
    assert!(read(CONSOLE_UNIT).contains(listens));
    // What is private in the compose file is what its dispatcher is allowed to call, and nothing else.
    let receiver = value(&compose, "ipv4_address:").unwrap();
    assert_eq!(value(&compose, "POSTCALL_ALLOW_TARGETS:"), Some(format!("{receiver}/32").as_str()));
    assert!(network.contains("169.254.0.0/16"), "the providers' metadata must stay out of reach");
}

/// A password file is ignored if a group seems to have rights to it, and that is so with the credentials of newer systemd.
#[test]
fn a_unit_reads_its_password_from_a_copy_that_nobody_else_has_rights_to() {
    for path in [UNIT, CONSOLE_UNIT] {
        let unit = read(path);
        let credential = value(&unit, "LoadCredential=").and_then(|value| value.split(':').next()).expect(path);
        let file = value(&unit, "Environment=PGPASSFILE=").expect(path);
        assert!(file.starts_with("%t/%N/"), "{path}: {file}");
        assert_eq!(value(&unit, "RuntimeDirectory="), Some("%N"), "{path}");
        assert_eq!(value(&unit, "RuntimeDirectoryMode="), Some("0700"), "{path}");
        let copied = format!("/usr/bin/install -m 600 %d/{credential} {file}");
        assert_eq!(value(&unit, "ExecStartPre="), Some(copied.as_str()), "{path}");
    }
}

#[test]
fn the_image_is_built_from_files_that_exist_and_that_docker_is_sent() {
    let ignored = read(".dockerignore");
    let sent: Vec<&str> = ignored.lines().filter_map(|line| line.strip_prefix('!')).collect();
    let dockerfile = read(DOCKERFILE);
    let copies = dockerfile.lines().filter_map(|line| line.strip_prefix("COPY "));
    let mut copied = BTreeSet::new();
    for copy in copies.filter(|copy| !copy.starts_with("--from")) {
        let words: Vec<&str> = copy.split_whitespace().collect();
        copied.extend(words[..words.len() - 1].iter().copied());
    }
    for path in &copied {
        assert!(root().join(path).exists(), "{path} does not exist");
        assert!(sent.contains(path), "{path} is not sent to Docker");
    }
    assert_eq!(copied.len(), sent.len(), "{sent:?} are sent, {copied:?} are copied");
}
