//! The directory to which checkpoints are exported, where the database's owner cannot reach them.
//!
//! Each day has a file, which is only ever appended to, and every checkpoint is on the disk before the next one is made. A
//! directory that hangs (on a network) holds up its sealer alone, and not the end of its process.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use chrono::NaiveDate;
use tokio::sync::oneshot;
use tracing::warn;
use uuid::Uuid;

use super::checkpoint_outlet::NAME_PREFIX;
use crate::domain::chain::chain;
use crate::seal::key::Verifier;
use crate::seal::note::{Checkpoint, MAX_NOTE_BYTES, notes};

/// How the names of its files begin; a day follows.
pub const FILE_PREFIX: &str = "checkpoints-";
/// How they end.
pub const FILE_SUFFIX: &str = ".txt";
/// How the name of the file begins that shows whether files can be written; an id follows.
const TRIAL_PREFIX: &str = ".postcall";
/// How long the id at the end of a name is, as it is written.
const ID_LENGTH: usize = uuid::fmt::Hyphenated::LENGTH;
/// How old a file must be, by the clock of the directory, so that nobody writes it any more: whoever began it has died. Writing one takes
/// a moment. Whoever hangs for longer tries again when its file is gone.
const LEFT_BEHIND: Duration = Duration::from_hours(24);

/// A directory of checkpoints.
#[derive(Clone, Debug)]
pub struct CheckpointDir(PathBuf);

/// Why checkpoints cannot be exported.
#[derive(Debug, thiserror::Error)]
#[error("the directory of checkpoints {path} cannot be used")]
pub struct DirError {
    path: String,
    source: io::Error,
}

impl CheckpointDir {
    /// The directory, if its files can be written: one is made and removed again. What a process that died has begun and left behind
    /// in it is removed, too.
    ///
    /// # Errors
    /// If the directory is not there, or cannot be written.
    pub fn open(path: &Path) -> Result<CheckpointDir, DirError> {
        let directory = CheckpointDir(path.to_owned());
        let trial = begun(path, TRIAL_PREFIX);
        let tried = File::create_new(&trial).and_then(|file| file.metadata()?.modified()).and_then(|now| {
            fs::remove_file(&trial)?;
            Ok(now)
        });
        let now = tried.map_err(|source| directory.error(source))?;
        if let Err(error) = remove_left_behind(path, now) {
            warn!(error = %chain(&error), "what was left behind in the directory of checkpoints cannot be removed");
        }
        Ok(directory)
    }

    /// The newest checkpoint that one of the keys signed, in the newest file that has any, with that key.
    pub(super) async fn newest(self, keys: &[Verifier]) -> Result<Option<(Checkpoint, Verifier)>, DirError> {
        let keys = keys.to_vec();
        self.beside(move |path| {
            let mut files = files(path)?;
            while let Some(file) = files.pop() {
                let text = end_of(&file)?;
                let newest = notes(&text).into_iter().rev().find_map(|note| Checkpoint::opened_by(note, &keys).ok());
                if let Some((checkpoint, key)) = newest {
                    return Ok(Some((checkpoint, key.clone())));
                }
            }
            Ok(None)
        })
        .await
    }

    /// Appends a checkpoint to the file of a day. When it returns, the checkpoint is on the disk.
    pub(super) async fn append(self, day: NaiveDate, note: String) -> Result<(), DirError> {
        self.beside(move |path| {
            let name = path.join(format!("{FILE_PREFIX}{day}{FILE_SUFFIX}"));
            let mut file = OpenOptions::new().append(true).create(true).open(name)?;
            // In one write, and with an empty line before it, so that one that a crash tore hides none that follows.
            file.write_all(format!("\n{note}").as_bytes())?;
            file.sync_all()?;
            // If the file is new, its name is to be on the disk, too.
            File::open(path)?.sync_all()
        })
        .await
    }

    /// Keeps files, none of which takes the place of one that is there. When it returns, they are on the disk.
    pub(super) async fn keep(self, files: Vec<(String, Bytes)>) -> Result<(), DirError> {
        self.beside(move |path| {
            for (name, bytes) in files {
                if !path.join(&name).exists() {
                    put_whole(path, &name, |file| file.write_all(&bytes))?;
                }
            }
            File::open(path)?.sync_all()
        })
        .await
    }

    /// Does work with files on a thread that may wait for them, for ever.
    async fn beside<T: Send + 'static>(
        self,
        work: impl FnOnce(&Path) -> io::Result<T> + Send + 'static,
    ) -> Result<T, DirError> {
        let (path, (tell, told)) = (self.0.clone(), oneshot::channel());
        // A thread of its own, for which nobody waits when the process ends: the runtime would wait for one of its own without end.
        let thread = thread::Builder::new().name("checkpoints".to_owned()).spawn(move || {
            let _nobody_waits = tell.send(work(&path));
        });
        let done = match thread {
            Ok(_) => told.await.map_err(io::Error::other).flatten(),
            Err(error) => Err(error),
        };
        done.map_err(|source| self.error(source))
    }

    fn error(&self, source: io::Error) -> DirError {
        DirError { path: self.0.display().to_string(), source }
    }
}

/// A place for a file that is begun. It is nobody else's, in whatever container or on whatever machine the other one runs.
fn begun(directory: &Path, name: &str) -> PathBuf {
    directory.join(format!("{name}-{}", Uuid::now_v7()))
}

/// Puts a file there that is whole under its name. If it cannot be, nothing of it stays, unless this process dies meanwhile.
fn put_whole(directory: &Path, name: &str, write: impl FnOnce(&mut File) -> io::Result<()>) -> io::Result<()> {
    let begun = begun(directory, &format!(".{name}"));
    let mut file = File::create_new(&begun)?;
    let put = write(&mut file).and_then(|()| file.sync_all()).and_then(|()| fs::rename(&begun, directory.join(name)));
    if put.is_err() {
        fs::remove_file(&begun).ok();
    }
    put
}

/// Whether a file of this name was begun by [`begun`]. No such name is ever used twice, so what is old under it is not somebody's new file.
fn is_begun(name: &str) -> bool {
    let of_ours = [TRIAL_PREFIX.to_owned(), format!(".{NAME_PREFIX}")].iter().any(|prefix| name.starts_with(prefix));
    let id = name.len().checked_sub(ID_LENGTH).and_then(|at| name.split_at_checked(at));
    of_ours && id.is_some_and(|(rest, id)| rest.ends_with('-') && Uuid::try_parse(id).is_ok())
}

/// Removes files that were begun so long before `now` that whoever began them has died.
fn remove_left_behind(directory: &Path, now: SystemTime) -> io::Result<()> {
    for entry in fs::read_dir(directory)? {
        let entry = entry?;
        if !entry.file_name().to_str().is_some_and(is_begun) {
            continue;
        }
        // Of the entry itself: no link is followed.
        let is_old = |modified| now.duration_since(modified).is_ok_and(|age| age > LEFT_BEHIND);
        let removed = match entry.metadata() {
            Ok(metadata) if metadata.is_file() && metadata.modified().is_ok_and(is_old) => {
                fs::remove_file(entry.path())
            }
            Ok(_) => Ok(()),
            Err(error) => Err(error),
        };
        unless_gone(removed)?;
    }
    Ok(())
}

/// The result, except that there was nothing to remove: somebody else who starts removes the same files.
fn unless_gone(removed: io::Result<()>) -> io::Result<()> {
    removed.or_else(|error| if error.kind() == io::ErrorKind::NotFound { Ok(()) } else { Err(error) })
}

/// The files of a directory, the oldest first.
fn files(path: &Path) -> io::Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    for entry in fs::read_dir(path)? {
        let name = entry?.file_name();
        if name.to_string_lossy().starts_with(FILE_PREFIX) {
            files.push(path.join(name));
        }
    }
    files.sort();
    Ok(files)
}

/// The end of a file: more than the largest note.
fn end_of(file: &Path) -> io::Result<String> {
    let mut file = File::open(file)?;
    let length = file.metadata()?.len();
    file.seek(SeekFrom::Start(length.saturating_sub(4 * MAX_NOTE_BYTES as u64)))?;
    let mut bytes = Vec::new();
    file.read_to_end(&mut bytes)?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;
    use std::panic::{AssertUnwindSafe, catch_unwind};

    use super::*;

    const STAMP: &str = "checkpoint-00000000000000000001-abababababababab.tsr";

    /// The names in a directory, in order.
    fn names(directory: &Path) -> Vec<String> {
        let entries = fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
        let mut names: Vec<String> = entries.collect();
        names.sort();
        names
    }

    /// Makes the file as old as that.
    fn age(file: &Path, by: Duration) {
        let file = File::options().write(true).open(file).unwrap();
        let made = file.metadata().unwrap().modified().unwrap();
        file.set_modified(made - by).unwrap();
    }

    /// A file that a process has begun before it died: between the writing and the renaming.
    fn died_at(directory: &Path) -> PathBuf {
        let dies = |file: &mut File| -> io::Result<()> {
            file.write_all(b"half").unwrap();
            panic!("it dies, as this test wants it")
        };
        assert!(catch_unwind(AssertUnwindSafe(|| put_whole(directory, STAMP, dies))).is_err());
        let left = names(directory).into_iter().find(|name| is_begun(name)).expect("it has begun a file");
        directory.join(left)
    }

    #[test]
    fn a_file_that_somebody_else_has_removed_is_no_error_and_one_that_cannot_be_removed_is() {
        let directory = tempfile::tempdir().unwrap();
        assert!(unless_gone(fs::remove_file(directory.path().join("gone"))).is_ok());
        assert!(unless_gone(fs::remove_file(directory.path())).is_err());
    }

    #[test]
    fn a_file_that_was_begun_stays_for_as_long_as_somebody_may_write_it() {
        let directory = tempfile::tempdir().unwrap();
        let (path, made) = (directory.path(), SystemTime::UNIX_EPOCH + Duration::from_hours(500_000));
        let file = begun(path, TRIAL_PREFIX);
        File::create(&file).unwrap().set_modified(made).unwrap();
        for (since, stays) in [(LEFT_BEHIND, true), (LEFT_BEHIND + Duration::from_secs(1), false)] {
            remove_left_behind(path, made + since).unwrap();
            assert_eq!(file.exists(), stays, "{since:?}");
        }
    }

    #[test]
    fn what_a_process_left_behind_when_it_died_is_removed_at_the_next_start_and_nothing_else() {
        let (directory, old) = (tempfile::tempdir().unwrap(), LEFT_BEHIND + Duration::from_mins(1));
        let path = directory.path();
        // Another process writes this one now, or did so until a moment ago.
        let [fresh, recent] = [Duration::ZERO, LEFT_BEHIND - Duration::from_mins(1)].map(|since| {
            let file = begun(path, &format!(".{STAMP}"));
            File::create(&file).unwrap();
            age(&file, since);
            file
        });
        let not_ours = [
            STAMP.to_owned(),
            "checkpoints-2026-11-29.txt".to_owned(),
            format!(".{STAMP}"),
            format!(".{STAMP}-4711"),
            format!("{STAMP}-{}", Uuid::now_v7()),
            format!(".other-{}", Uuid::now_v7()),
            format!(".{STAMP}{}", Uuid::now_v7()),
        ];
        for name in &not_ours {
            File::create(path.join(name)).unwrap();
            age(&path.join(name), old);
        }
        let folder = begun(path, &format!(".{STAMP}"));
        fs::create_dir(&folder).unwrap();
        let link = begun(path, &format!(".{STAMP}"));
        symlink(STAMP, &link).unwrap();
        let others = names(path);
        let left = begun(path, &format!(".{STAMP}"));
        let trial = begun(path, TRIAL_PREFIX);
        for file in [&left, &trial] {
            File::create(file).unwrap();
            age(file, old);
        }
        CheckpointDir::open(path).unwrap();
        assert_eq!(names(path), others, "{fresh:?} {recent:?}");
    }

    #[test]
    fn a_file_is_whole_under_its_name_and_nothing_of_one_that_cannot_be_written_stays() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path();
        let full = |file: &mut File| -> io::Result<()> {
            file.write_all(b"half")?;
            Err(io::ErrorKind::StorageFull.into())
        };
        assert_eq!(put_whole(path, STAMP, full).map_err(|error| error.kind()), Err(io::ErrorKind::StorageFull));
        assert_eq!(names(path), [] as [String; 0]);

        let left = died_at(path);
        CheckpointDir::open(path).unwrap();
        assert_eq!(names(path).len(), 1, "it was begun just now: perhaps somebody writes it");
        // Who begins it anew is not disturbed by that, and does not disturb it.
        put_whole(path, STAMP, |file| file.write_all(b"whole")).unwrap();
        assert_eq!(fs::read(path.join(STAMP)).unwrap(), b"whole");
        assert_eq!(fs::read(&left).unwrap(), b"half");
        age(&left, LEFT_BEHIND + Duration::from_mins(1));
        CheckpointDir::open(path).unwrap();
        assert_eq!(names(path), [STAMP]);
    }
}
