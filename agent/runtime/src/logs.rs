//! Where pods' logs are, of living and of dead ones, for people: read from the run directory alone.
//!
//! ```text
//!   RUN-DIR/POD-UID/logs/CONTAINER.log.4 … .log.1 .log                its present or last run
//!   RUN-DIR/POD-UID/logs/CONTAINER.log.previous.4 … .log.previous     the run before
//! ```
//!
//! Supervisors of an older version have all runs in the first of these, and the date of the newest
//! one's start in `CONTAINER.started`.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use everynode_model::{PodKey, PodUid};

use crate::shim::protocol::LOGS;

/// The file in a pod's directory that says which place it was made for.
pub(crate) const POD: &str = "pod";

/// The extension of the file beside a container's log in which supervisors of an older version
/// noted the date at which its newest run began, as the log writes dates.
const STARTED: &str = "started";

/// Which run of a container.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Run {
    /// The one that runs, or that ran last.
    Present,
    /// The one before it.
    Previous,
}

/// The file of a run of a container, in the directory of its pod's logs: the one that is written,
/// or the `number`th that is full, from newer to older.
pub fn log_file(directory: &Path, container: &str, run: Run, number: usize) -> PathBuf {
    let mut name = format!("{container}.log");
    if run == Run::Previous {
        name.push_str(".previous");
    }
    if number > 0 {
        name.push_str(&format!(".{number}"));
    }
    directory.join(name)
}

/// The directory of a pod's logs.
pub fn logs_of(run_dir: &Path, pod: PodUid) -> PathBuf {
    run_dir.join(pod.to_string()).join(LOGS)
}

/// When a container's newest run began, where its supervisor keeps all runs in one file.
pub fn newest_run_since(directory: &Path, container: &str) -> Option<String> {
    fs::read_to_string(directory.join(format!("{container}.{STARTED}"))).ok()
}

/// The logs of one pod.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PodLogs {
    /// The pod.
    pub pod: PodUid,
    /// Its place; `None` where its directory does not say.
    pub key: Option<PodKey>,
    /// When its directory was made, or last changed.
    pub at: SystemTime,
    /// The directory with the files of all its containers: see [`log_file`].
    pub directory: PathBuf,
}

/// All pods that have logs in this run directory; none where there is no such directory.
///
/// # Errors
/// When it can't be read.
pub fn logs(run_dir: &Path) -> io::Result<Vec<PodLogs>> {
    let entries = match fs::read_dir(run_dir) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries?,
    };
    let mut found = Vec::new();
    for entry in entries {
        let entry = entry?;
        let Some(pod) = entry.file_name().to_str().and_then(|name| name.parse().ok()) else {
            continue;
        };
        let directory = entry.path().join(LOGS);
        let Ok(at) = fs::metadata(&directory).and_then(|about| about.modified()) else { continue };
        let key = fs::read_to_string(entry.path().join(POD)).ok().and_then(|text| {
            let (namespace, name) = text.split_once('/')?;
            PodKey::new(namespace, name).ok()
        });
        found.push(PodLogs { pod, key, at, directory });
    }
    found.sort_by_key(|logs| logs.at);
    Ok(found)
}
