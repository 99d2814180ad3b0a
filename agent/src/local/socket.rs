//! A unix socket in a directory of any length: the address of one holds 107 characters, so it is
//! named through a descriptor of its directory.

use std::fs::{self, File, Permissions};
use std::io;
use std::os::fd::AsRawFd as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use tokio::net::{UnixListener, UnixStream};

use super::NAME;

/// Listens in `directory`, for its owner alone. What an earlier agent left there is replaced: this
/// one holds the directory's lock.
pub(super) fn listen(directory: &Path) -> io::Result<UnixListener> {
    match fs::remove_file(directory.join(NAME)) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let open = File::open(directory)?;
    let listener = UnixListener::bind(short(&open))?;
    // The directory is 0700, so nobody else came in between.
    fs::set_permissions(directory.join(NAME), Permissions::from_mode(0o600))?;
    Ok(listener)
}

/// Connects to whoever listens in `directory`.
pub(super) async fn connect(directory: &Path) -> io::Result<UnixStream> {
    let open = File::open(directory)?;
    UnixStream::connect(short(&open)).await
}

fn short(directory: &File) -> PathBuf {
    format!("/proc/self/fd/{}/{NAME}", directory.as_raw_fd()).into()
}
