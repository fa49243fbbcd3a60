//! The two files that say how names are looked up on this machine. They are read again when they change, because DHCP,
//! Kubernetes and operators rewrite them while programs run.

use std::io::{self, Read};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;
use tracing::{info, warn};

use super::hosts::Hosts;
use super::resolv_conf::Directions;
use crate::domain::chain::chain;

/// The shortest time between two checks of the files. A check costs two system calls. Reading costs a few milliseconds
/// for the largest file that is read.
const RECHECK: Duration = Duration::from_secs(1);
/// The largest file that is read, in bytes.
const MAX_FILE_BYTES: u64 = 4 << 20;

/// The files that say how names are looked up. The default is the files of the system.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NameSources {
    /// The resolver's configuration, see resolv.conf(5).
    pub resolv_conf: PathBuf,
    /// The hosts file, see hosts(5).
    pub hosts: PathBuf,
    /// The port of all name servers. resolv.conf has no setting for it.
    pub name_server_port: u16,
}

impl Default for NameSources {
    fn default() -> NameSources {
        NameSources { resolv_conf: "/etc/resolv.conf".into(), hosts: "/etc/hosts".into(), name_server_port: 53 }
    }
}

/// The contents of the files when they were last read.
#[derive(Debug)]
pub(super) struct Snapshot {
    /// The contents of the hosts file.
    pub(super) hosts: Arc<Hosts>,
    /// The resolver's configuration.
    pub(super) directions: Arc<Directions>,
    /// How often the files have changed since the start.
    pub(super) generation: u64,
}

/// The files, and their last contents.
#[derive(Debug)]
pub(super) struct Files {
    sources: NameSources,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    checked: Instant,
    resolv_conf: Stamp,
    hosts: Stamp,
    snapshot: Arc<Snapshot>,
}

impl Files {
    /// Reads the files for the first time. One that does not exist counts as empty.
    ///
    /// # Errors
    /// Returns the file that exists and cannot be read, and the error.
    pub(super) fn read(sources: NameSources, now: Instant) -> Result<Files, (PathBuf, io::Error)> {
        let (resolv_conf, hosts) = (Stamp::of(&sources.resolv_conf), Stamp::of(&sources.hosts));
        let directions = Directions::parse(&read_first(&sources.resolv_conf)?, sources.name_server_port);
        let names = Hosts::parse(&read_first(&sources.hosts)?);
        let snapshot = Snapshot { hosts: Arc::new(names), directions: Arc::new(directions), generation: 0 };
        let state = State { checked: now, resolv_conf, hosts, snapshot: Arc::new(snapshot) };
        Ok(Files { sources, state: Mutex::new(state) })
    }

    /// The current contents of the files. Checks the files if the last check was at least [`RECHECK`] ago.
    pub(super) fn current(&self, now: Instant) -> Arc<Snapshot> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if now.duration_since(state.checked) >= RECHECK {
            state.checked = now;
            state.look_again(&self.sources);
        }
        Arc::clone(&state.snapshot)
    }
}

impl State {
    fn look_again(&mut self, sources: &NameSources) {
        let (resolv_conf, hosts) = (Stamp::of(&sources.resolv_conf), Stamp::of(&sources.hosts));
        let mut next = Snapshot {
            hosts: Arc::clone(&self.snapshot.hosts),
            directions: Arc::clone(&self.snapshot.directions),
            generation: self.snapshot.generation + 1,
        };
        let (new_conf, new_hosts) = (resolv_conf != self.resolv_conf, hosts != self.hosts);
        if !new_conf && !new_hosts {
            return;
        }
        // The stamps are kept even if a file cannot be used, so that the log says so only once.
        (self.resolv_conf, self.hosts) = (resolv_conf, hosts);
        if new_conf && let Some(text) = read_again(&sources.resolv_conf) {
            // A file that is being written may be empty for a moment. Using it would send all questions to this
            // machine.
            if Directions::names_a_server(&text) {
                next.directions = Arc::new(Directions::parse(&text, sources.name_server_port));
            } else {
                warn!(file = %sources.resolv_conf.display(), "the file has no name server; old contents stay in use");
            }
        }
        if new_hosts && let Some(text) = read_again(&sources.hosts) {
            next.hosts = Arc::new(Hosts::parse(&text));
        }
        self.snapshot = Arc::new(next);
    }
}

fn read_first(path: &Path) -> Result<Vec<u8>, (PathBuf, io::Error)> {
    match read(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
        text => text.map_err(|error| (path.to_owned(), error)),
    }
}

fn read_again(path: &Path) -> Option<Vec<u8>> {
    let text = read(path);
    match &text {
        Ok(_) => info!(file = %path.display(), "the file has changed and was read again"),
        Err(error) => {
            warn!(file = %path.display(), error = %chain(error), "the file cannot be read; old contents stay in use")
        }
    }
    text.ok()
}

fn read(path: &Path) -> io::Result<Vec<u8>> {
    // Opening a pipe or a device could block for ever.
    if !std::fs::metadata(path)?.is_file() {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "not a file"));
    }
    let mut text = Vec::new();
    std::fs::File::open(path)?.take(MAX_FILE_BYTES + 1).read_to_end(&mut text)?;
    if text.len() as u64 > MAX_FILE_BYTES {
        return Err(io::Error::new(io::ErrorKind::FileTooLarge, "too large"));
    }
    Ok(text)
}

/// Identifies a file and its contents. It changes each time the file is written or replaced.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Stamp(Option<([u64; 3], [i64; 4])>);

impl Stamp {
    fn of(path: &Path) -> Stamp {
        Stamp(std::fs::metadata(path).ok().map(|file| {
            let times = [file.mtime(), file.mtime_nsec(), file.ctime(), file.ctime_nsec()];
            ([file.dev(), file.ino(), file.size()], times)
        }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sources(directory: &Path) -> NameSources {
        let (resolv_conf, hosts) = (directory.join("resolv.conf"), directory.join("hosts"));
        NameSources { resolv_conf, hosts, ..NameSources::default() }
    }

    fn first_server(snapshot: &Snapshot) -> String {
        snapshot.directions.servers(Instant::now())[0].address.ip().to_string()
    }

    #[test]
    fn without_files_the_name_server_on_this_machine_is_asked() {
        let directory = tempfile::tempdir().unwrap();
        let files = Files::read(sources(directory.path()), Instant::now()).unwrap();
        assert_eq!(first_server(&files.current(Instant::now())), "127.0.0.1");
    }

    #[test]
    fn a_file_that_cannot_be_read_is_an_error_at_the_start_and_later_leaves_the_former_one_in_force() {
        let directory = tempfile::tempdir().unwrap();
        let (sources, now) = (sources(directory.path()), Instant::now());
        std::fs::write(&sources.resolv_conf, "nameserver 10.0.0.1\n").unwrap();
        let files = Files::read(sources.clone(), now).unwrap();
        let unusable: [fn(&Path); 3] = [
            |path| std::fs::remove_file(path).unwrap(),
            |path| std::fs::create_dir(path).unwrap(),
            |path| {
                std::fs::remove_dir(path).unwrap();
                std::fs::write(path, "search a.test\n").unwrap();
            },
        ];
        for (number, make) in unusable.into_iter().enumerate() {
            make(&sources.resolv_conf);
            let later = now + RECHECK * (number as u32 + 1);
            assert_eq!(first_server(&files.current(later)), "10.0.0.1");
        }
        std::fs::write(&sources.resolv_conf, "nameserver 10.0.0.2\n").unwrap();
        assert_eq!(first_server(&files.current(now + RECHECK * 9)), "10.0.0.2");
        std::fs::remove_file(&sources.resolv_conf).unwrap();
        std::fs::create_dir(&sources.resolv_conf).unwrap();
        assert!(Files::read(sources, now).is_err());
    }

    #[test]
    fn a_file_above_the_bound_is_not_read() {
        let directory = tempfile::tempdir().unwrap();
        let sources = sources(directory.path());
        std::fs::File::create(&sources.hosts).unwrap().set_len(MAX_FILE_BYTES + 1).unwrap();
        let read = |sources: &NameSources| Files::read(sources.clone(), Instant::now());
        assert_eq!(read(&sources).unwrap_err().1.kind(), io::ErrorKind::FileTooLarge);
        std::fs::File::create(&sources.hosts).unwrap().set_len(MAX_FILE_BYTES).unwrap();
        assert!(read(&sources).is_ok());
    }

    #[test]
    fn each_change_of_a_file_makes_a_generation_of_its_own_and_nothing_else_does() {
        let directory = tempfile::tempdir().unwrap();
        let (sources, now) = (sources(directory.path()), Instant::now());
        std::fs::write(&sources.resolv_conf, "nameserver 10.0.0.1\n").unwrap();
        let files = Files::read(sources.clone(), now).unwrap();
        let mut checks = 0;
        let mut told = || {
            checks += 1;
            let snapshot = files.current(now + RECHECK * checks);
            let of_h = snapshot.hosts.get("h").map(|addresses| addresses[0].to_string());
            (snapshot.generation, first_server(&snapshot), of_h)
        };
        let is =
            |generation, server: &str, of_h: Option<&str>| (generation, server.to_owned(), of_h.map(str::to_owned));
        assert_eq!([told(), told()], [is(0, "10.0.0.1", None), is(0, "10.0.0.1", None)]);
        std::fs::write(&sources.hosts, "10.0.0.7 h\n").unwrap();
        assert_eq!(told(), is(1, "10.0.0.1", Some("10.0.0.7")));
        std::fs::write(&sources.resolv_conf, "nameserver 10.0.0.22\n").unwrap();
        assert_eq!([told(), told()], [is(2, "10.0.0.22", Some("10.0.0.7")), is(2, "10.0.0.22", Some("10.0.0.7"))]);
        std::fs::write(&sources.hosts, "10.0.0.88 h\n").unwrap();
        assert_eq!(told(), is(3, "10.0.0.22", Some("10.0.0.88")));
        // The same file, as long as before: only its times tell that it has changed.
        std::fs::write(&sources.resolv_conf, "nameserver 10.0.0.33\n").unwrap();
        let written = std::fs::File::options().write(true).open(&sources.resolv_conf).unwrap();
        written.set_modified(std::time::SystemTime::UNIX_EPOCH).unwrap();
        assert_eq!(told(), is(4, "10.0.0.33", Some("10.0.0.88")));
    }
}
