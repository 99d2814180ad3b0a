//! Where a volume is seen: a directory or file that is there already, on the machine or in a volume
//! that was mounted before.

use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};

use rustix::fs::{CWD, FileType, Mode, OFlags};
use rustix::io::Errno;

/// Opens what is at `path` in the present namespace, for `tree` to be mounted over it.
pub(super) fn open(path: &str, tree: BorrowedFd<'_>) -> Result<OwnedFd, String> {
    let flags = OFlags::PATH | OFlags::CLOEXEC;
    let target = match rustix::fs::openat(CWD, path, flags, Mode::empty()) {
        Err(Errno::NOENT) => {
            return Err(
                "does not exist on this machine, and can't be made without changing it".to_owned()
            );
        }
        outcome => outcome.map_err(|errno| errno.to_string())?,
    };
    match (is_directory(target.as_fd())?, is_directory(tree)?) {
        (true, false) => Err("is a directory on this machine, and the volume a file".to_owned()),
        (false, true) => Err("is a file on this machine, and the volume a directory".to_owned()),
        _ => Ok(target),
    }
}

fn is_directory(file: BorrowedFd<'_>) -> Result<bool, String> {
    let stat = rustix::fs::fstat(file).map_err(|errno| errno.to_string())?;
    Ok(FileType::from_raw_mode(stat.st_mode) == FileType::Directory)
}
