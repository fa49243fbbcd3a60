//! The directory to which checkpoints are exported, where the database's owner cannot reach them.
//!
//! Each day has a file, which is only ever appended to, and every checkpoint is on the disk before the next one is made. A
//! directory that hangs (on a network) holds up its sealer alone, and not the end of its process.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::thread;

use bytes::Bytes;
use chrono::NaiveDate;
use tokio::sync::oneshot;

use crate::seal::key::Verifier;
use crate::seal::note::{Checkpoint, MAX_NOTE_BYTES, notes};

/// How the names of its files begin; a day follows.
pub const FILE_PREFIX: &str = "checkpoints-";
/// How they end.
pub const FILE_SUFFIX: &str = ".txt";

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
    /// The directory, if its files can be written: one is made and removed again.
    ///
    /// # Errors
    /// If the directory is not there, or cannot be written.
    pub fn open(path: &Path) -> Result<CheckpointDir, DirError> {
        let directory = CheckpointDir(path.to_owned());
        let trial = path.join(format!(".postcall-{}", std::process::id()));
        let tried = File::create(&trial).and_then(|_| fs::remove_file(&trial));
        tried.map_err(|source| directory.error(source))?;
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
            let is_new = !name.exists();
            let mut file = OpenOptions::new().append(true).create(true).open(name)?;
            // In one write, and with an empty line before it, so that one that a crash tore hides none that follows.
            file.write_all(format!("\n{note}").as_bytes())?;
            file.sync_all()?;
            if is_new { File::open(path)?.sync_all() } else { Ok(()) }
        })
        .await
    }

    /// Keeps files, none of which takes the place of one that is there. When it returns, they are on the disk.
    pub(super) async fn keep(self, files: Vec<(String, Bytes)>) -> Result<(), DirError> {
        self.beside(move |path| {
            for (name, bytes) in files {
                let (place, begun) = (path.join(&name), path.join(format!(".{name}-{}", std::process::id())));
                if place.exists() {
                    continue;
                }
                // Under its name it is whole.
                let mut file = File::create(&begun)?;
                file.write_all(&bytes)?;
                file.sync_all()?;
                fs::rename(&begun, &place)?;
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
