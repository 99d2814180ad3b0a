//! What has to be at a host path, and what is made there: as the kubelet does.

use std::fs::{self, DirBuilder, FileType, OpenOptions};
use std::io;
use std::os::unix::fs::{DirBuilderExt as _, FileTypeExt as _, OpenOptionsExt as _};

use everynode_agent_core::HostPathKind;

/// Sees that `path` is what it has to be, and makes it where it may be made.
pub(super) fn make(path: &str, kind: HostPathKind) -> Result<(), String> {
    if !is_absent(path)? {
        return problem(path, kind).map_or(Ok(()), Err);
    }
    let at = |error: io::Error| format!("{path} can't be made: {error}");
    match kind {
        HostPathKind::Any | HostPathKind::DirectoryOrCreate => {
            DirBuilder::new().recursive(true).mode(0o755).create(path).map_err(at)
        }
        HostPathKind::FileOrCreate => {
            let mut options = OpenOptions::new();
            options.write(true).create(true).truncate(false).mode(0o644);
            options.open(path).map(drop).map_err(at)
        }
        _ => problem(path, kind).map_or(Ok(()), Err),
    }
}

/// What `path` is not that it has to be, in the kubelet's words; links are followed.
pub fn problem(path: &str, kind: HostPathKind) -> Option<String> {
    let found = fs::metadata(path).ok().map(|metadata| metadata.file_type());
    let is = |test: fn(&FileType) -> bool| found.as_ref().is_some_and(test);
    let (good, what) = match kind {
        HostPathKind::Any => (true, ""),
        HostPathKind::DirectoryOrCreate | HostPathKind::Directory => {
            (is(FileType::is_dir), "a directory")
        }
        HostPathKind::FileOrCreate | HostPathKind::File => (is(FileType::is_file), "a file"),
        HostPathKind::Socket => (is(FileType::is_socket), "a socket file"),
        HostPathKind::CharDevice => (is(FileType::is_char_device), "a character device"),
        HostPathKind::BlockDevice => (is(FileType::is_block_device), "a block device"),
    };
    (!good).then(|| format!("hostPath type check failed: {path} is not {what}"))
}

fn is_absent(path: &str) -> Result<bool, String> {
    match fs::metadata(path) {
        Ok(_) => Ok(false),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(true),
        Err(error) => Err(format!("{path}: {error}")),
    }
}
