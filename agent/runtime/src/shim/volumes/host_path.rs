//! What has to be at a host path, and what is made there: as the kubelet does.

use std::fs::{self, DirBuilder, FileType, OpenOptions};
use std::io;
use std::os::unix::fs::{DirBuilderExt as _, FileTypeExt as _, OpenOptionsExt as _};

use super::wire::SpecKind;

/// Sees that `path` is what it has to be; the kubelet's words where it is not. Links are followed.
pub(super) fn check(path: &str, kind: SpecKind) -> Result<(), String> {
    let failed = |what: &str| Err(format!("hostPath type check failed: {path} is not {what}"));
    let found = match fs::metadata(path) {
        Ok(metadata) => Some(metadata.file_type()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => None,
        Err(error) => return Err(format!("{path}: {error}")),
    };
    let is = |test: fn(&FileType) -> bool| found.as_ref().is_some_and(test);
    let at = |error: io::Error| format!("{path} can't be made: {error}");
    match kind {
        SpecKind::Any | SpecKind::DirectoryOrCreate if found.is_none() => {
            DirBuilder::new().recursive(true).mode(0o755).create(path).map_err(at)
        }
        SpecKind::FileOrCreate if found.is_none() => {
            let mut options = OpenOptions::new();
            options.write(true).create(true).truncate(false).mode(0o644);
            options.open(path).map(drop).map_err(at)
        }
        SpecKind::DirectoryOrCreate | SpecKind::Directory if !is(FileType::is_dir) => {
            failed("a directory")
        }
        SpecKind::FileOrCreate | SpecKind::File if !is(FileType::is_file) => failed("a file"),
        SpecKind::Socket if !is(FileType::is_socket) => failed("a socket file"),
        SpecKind::CharDevice if !is(FileType::is_char_device) => failed("a character device"),
        SpecKind::BlockDevice if !is(FileType::is_block_device) => failed("a block device"),
        _ => Ok(()),
    }
}
