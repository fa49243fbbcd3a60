//! A disk that is full for a while.

use std::path::Path;
use std::process::Command;

use nix::sys::signal::Signal;
use tempfile::TempDir;

use crate::support::accounts;
use crate::support::cluster::{Cluster, own};
use crate::support::database::Database;
use crate::support::not_tested::impossible;
use crate::support::process::Dispatcher;
use crate::support::tally::Tally;

use super::{insert_calls, send_calls_to};

/// A file system in memory, small enough to be filled. Mounting asks for root.
struct SmallDisk(TempDir);

impl SmallDisk {
    /// `None` where this user may not mount.
    fn mount(size: &str) -> Option<SmallDisk> {
        let directory = tempfile::Builder::new().prefix("postcall-disk.").tempdir_in("/tmp").unwrap();
        let options = format!("size={size}");
        let mut mount = Command::new("mount");
        mount.args(["-t", "tmpfs", "-o", &options, "tmpfs"]).arg(directory.path());
        if !mount.output().is_ok_and(|output| output.status.success()) {
            return None;
        }
        own(directory.path());
        Some(SmallDisk(directory))
    }

    fn path(&self) -> &Path {
        self.0.path()
    }

    /// Takes all the room there is.
    fn fill(&self) {
        use std::io::Write;
        let mut ballast = std::fs::File::create(self.path().join("ballast")).unwrap();
        // By a page each in the end, so that not even one page of a table finds room.
        for size in [1 << 20, 4 << 10] {
            while ballast.write_all(&vec![0; size]).is_ok() {}
        }
    }

    fn empty(&self) {
        std::fs::remove_file(self.path().join("ballast")).unwrap();
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        // Lazily: the server may still be on its way out.
        Command::new("umount").arg("--lazy").arg(self.path()).output().ok();
    }
}

/// All of postcall's tables are on a disk that is full when the results come in. The server's log of changes is not: when
/// that is full, Postgres stops, which is another test's subject.
#[tokio::test(flavor = "multi_thread")]
async fn results_outlast_a_full_disk() {
    let Some(disk) = SmallDisk::mount("64m") else {
        impossible("a full disk, since this user may not mount one");
        return;
    };
    let cluster = Cluster::start().await;
    cluster.execute(&format!("CREATE TABLESPACE small LOCATION '{}'", disk.path().display())).await;
    let (database, tally) = (Database::on(&cluster.server(), "TABLESPACE small").await, Tally::holding().await);
    send_calls_to(&database, &tally.url()).await;
    insert_calls(&database, 2_000).await;
    let mut dispatcher = Dispatcher::start_leased(&database.url, 60_000, 1_000).await;
    tally.has(1_000).await;
    disk.fill();
    tally.answer_all();
    let complaint = dispatcher.says("the database does not do what it should").await;
    assert!(complaint.contains("No space left on device"), "{complaint}");
    disk.empty();
    database.settled().await;
    dispatcher.signal(Signal::SIGTERM);
    let (well, lines) = dispatcher.ended_saying().await;
    assert!(well && lines.len() < 20, "{lines:#?}");
    let accounts = accounts::check(&database.pool, &tally, &[]).await;
    assert_eq!((accounts.shown("delivered"), accounts.requests), (2_000, 2_000));
}
