//! The agent's directory: one agent's alone, with files that are whole or not there.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

use everynode_model::Digest;

/// How often, and at what distance, the lock is tried: an agent that was just killed may still be
/// on its way out.
const TRIES: u32 = 10;
const BETWEEN_TRIES: Duration = Duration::from_millis(50);

/// The directory, and the right to use it; given back when dropped.
#[derive(Debug)]
pub struct DataDir {
    path: PathBuf,
    _lock: File,
}

/// Why the directory can't be used.
#[derive(Debug, thiserror::Error)]
pub enum DataDirError {
    /// It can't be made, or nothing can be written in it.
    #[error("--data-dir {path}: not writable by uid {uid}: {source}")]
    NotWritable {
        /// The directory.
        path: PathBuf,
        /// This process' user.
        uid: u32,
        /// Why.
        source: io::Error,
    },
    /// Another agent uses it.
    #[error("--data-dir {path}: in use by another agent ({holder})")]
    InUse {
        /// The directory.
        path: PathBuf,
        /// Its process, as far as it said.
        holder: String,
    },
}

impl DataDir {
    /// Makes the directory where there is none (0700) and takes its lock.
    ///
    /// # Errors
    /// When it can't be written, or another agent holds the lock.
    pub async fn open(path: &Path) -> Result<Self, DataDirError> {
        let not_writable = |source| DataDirError::NotWritable {
            path: path.to_owned(),
            uid: rustix::process::geteuid().as_raw(),
            source,
        };
        make_private(path).map_err(not_writable)?;
        let path = path.canonicalize().map_err(not_writable)?;
        let (mut lock, writable) = open_lock(&path.join("lock")).map_err(not_writable)?;
        for _ in 0..TRIES {
            match lock.try_lock() {
                Ok(()) => {
                    match note_holder(&mut lock) {
                        // What runs here must be looked after all the same.
                        Err(error) if !writable || takes_nothing(&error) => {
                            let path = path.display();
                            tracing::error!(
                                "--data-dir {path}: the disk takes nothing; what runs is looked \
                                 after, new orders are not followed"
                            );
                        }
                        noted => noted.map_err(not_writable)?,
                    }
                    return Ok(Self { path, _lock: lock });
                }
                Err(fs::TryLockError::WouldBlock) => tokio::time::sleep(BETWEEN_TRIES).await,
                Err(fs::TryLockError::Error(error)) => return Err(not_writable(error)),
            }
        }
        Err(DataDirError::InUse { holder: holder(&mut lock), path })
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Where what does not have to outlive the machine goes if the disk takes nothing.
    pub fn spare(&self) -> PathBuf {
        spare_of(&self.path)
    }
}

/// The same, for whoever asks the agent of a data directory.
pub(crate) fn spare_of(directory: &Path) -> PathBuf {
    let of_user = || std::env::var_os("XDG_RUNTIME_DIR").map(PathBuf::from);
    let root = Some(()).filter(|()| !rustix::process::geteuid().is_root()).and_then(|()| of_user());
    let name = Digest::of(directory.as_os_str().as_bytes()).short();
    root.unwrap_or_else(|| "/run".into()).join("everynode-agent").join(name)
}

/// Whether a disk says that it is full, or read-only.
pub(crate) fn takes_nothing(error: &io::Error) -> bool {
    use io::ErrorKind::{QuotaExceeded, ReadOnlyFilesystem, StorageFull};
    matches!(error.kind(), StorageFull | QuotaExceeded | ReadOnlyFilesystem)
}

/// The lock's file, and whether it can be written; on a disk that has become read-only the one that
/// is there, which can be locked none the less.
fn open_lock(path: &Path) -> io::Result<(File, bool)> {
    let mut options = OpenOptions::new();
    options.read(true).write(true).create(true).truncate(false).mode(0o600);
    match options.open(path) {
        Err(error) if error.kind() == io::ErrorKind::ReadOnlyFilesystem => {
            File::open(path).map(|file| (file, false)).map_err(|_| error)
        }
        opened => opened.map(|file| (file, true)),
    }
}

/// Makes a directory, for its owner alone, where there is none.
pub(crate) fn make_private(path: &Path) -> io::Result<()> {
    DirBuilder::new().recursive(true).mode(0o700).create(path)
}

fn note_holder(lock: &mut File) -> io::Result<()> {
    lock.set_len(0)?;
    lock.write_all(std::process::id().to_string().as_bytes())
}

fn holder(lock: &mut File) -> String {
    let mut pid = String::new();
    match lock.take(20).read_to_string(&mut pid) {
        Ok(read) if read > 0 => format!("pid {pid}"),
        _ => "its pid is unknown".into(),
    }
}

/// Writes a file (0600) so that after a power cut either the old one or the new one is there,
/// whole, and after returning the new one. What is being written has a name of that file's own: a
/// command may write one beside a running agent that writes another.
///
/// # Errors
/// When the file system refuses; the old one is there then.
pub fn write_durably(path: &Path, content: &[u8]) -> io::Result<()> {
    let temporary = path.with_added_extension("tmp");
    let mut options = OpenOptions::new();
    let mut file = options.write(true).create(true).truncate(true).mode(0o600).open(&temporary)?;
    let written = file.write_all(content).and_then(|()| file.sync_all());
    if let Err(error) = written.and_then(|()| fs::rename(&temporary, path)) {
        let _ = fs::remove_file(&temporary);
        return Err(error);
    }
    sync_parent(path)
}

/// Puts one file in another's place, durably.
///
/// # Errors
/// When the file system refuses; both are as before then.
pub fn rename_durably(from: &Path, to: &Path) -> io::Result<()> {
    fs::rename(from, to)?;
    sync_parent(to)
}

/// Removes a file durably; one that is not there is removed.
///
/// # Errors
/// When the file system refuses.
pub fn remove_durably(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Ok(()) => sync_parent(path),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(error),
    }
}

/// Removes a directory and all that is in it; one that is not there is removed.
///
/// # Errors
/// When the file system refuses; a part may be left then.
pub(crate) fn remove_all(path: &Path) -> io::Result<()> {
    match fs::remove_dir_all(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

/// Reads a file of at most `limit` bytes; `None` where there is none.
///
/// # Errors
/// When it can't be read or is longer.
pub fn read_bounded(path: &Path, limit: u64) -> io::Result<Option<Vec<u8>>> {
    let file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    let mut content = Vec::new();
    file.take(limit + 1).read_to_end(&mut content)?;
    if u64::try_from(content.len()).is_ok_and(|length| length > limit) {
        return Err(io::Error::new(io::ErrorKind::FileTooLarge, format!("over {limit} bytes")));
    }
    Ok(Some(content))
}

fn sync_parent(path: &Path) -> io::Result<()> {
    match path.parent() {
        Some(parent) => File::open(parent)?.sync_all(),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt as _;

    #[tokio::test]
    async fn one_agent_at_a_time_and_the_other_is_named() {
        let parent = tempfile::tempdir().unwrap();
        let path = parent.path().join("a/b");
        let first = DataDir::open(&path).await.unwrap();
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o700);
        let refused = DataDir::open(&path).await.unwrap_err();
        let pid = format!("pid {}", std::process::id());
        assert!(matches!(&refused, DataDirError::InUse { holder, .. } if *holder == pid));
        drop(first);
        assert!(DataDir::open(&path).await.is_ok());
    }

    #[tokio::test]
    async fn a_directory_that_can_not_be_made_is_named() {
        let parent = tempfile::tempdir().unwrap();
        let path = parent.path().join("file");
        fs::write(&path, "").unwrap();
        let refused = DataDir::open(&path.join("x")).await.unwrap_err();
        assert!(refused.to_string().starts_with("--data-dir "), "{refused}");
    }

    #[test]
    fn each_directory_has_a_spare_one_of_its_own() {
        let (one, other) = (spare_of(Path::new("/a")), spare_of(Path::new("/b")));
        assert_ne!(one, other);
        assert!(one.parent().unwrap().ends_with("everynode-agent"), "{}", one.display());
    }

    #[test]
    fn two_files_that_are_written_at_once_do_not_get_into_each_other() {
        let parent = tempfile::tempdir().unwrap();
        let (one, other) = (parent.path().join("f.json"), parent.path().join("f.next"));
        let writing = |path: std::path::PathBuf, byte: u8| {
            std::thread::spawn(move || {
                for _ in 0..200 {
                    write_durably(&path, &[byte; 4096]).unwrap();
                    assert_eq!(fs::read(&path).unwrap(), [byte; 4096]);
                }
            })
        };
        for thread in [writing(one, b'1'), writing(other, b'2')] {
            thread.join().unwrap();
        }
    }

    #[test]
    fn files_are_private_and_bounded() {
        let parent = tempfile::tempdir().unwrap();
        let path = parent.path().join("f");
        assert_eq!(read_bounded(&path, 3).unwrap(), None);
        write_durably(&path, b"abc").unwrap();
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(read_bounded(&path, 3).unwrap().as_deref(), Some(b"abc".as_slice()));
        assert!(read_bounded(&path, 2).is_err());
        remove_durably(&path).unwrap();
        remove_durably(&path).unwrap();
    }
}
