//! Where pods' logs are, of living and of dead ones, for people: read from the run directory alone.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use everynode_model::{PodKey, PodUid};

use crate::shim::protocol::LOGS;

/// The file in a pod's directory that says which place it was made for.
pub(crate) const POD: &str = "pod";

/// The extension of the file beside a container's log that holds the date at which its newest run
/// began, as the log writes dates.
pub(crate) const STARTED: &str = "started";

/// The logs of one pod.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PodLogs {
    /// The pod.
    pub pod: PodUid,
    /// Its place; `None` where its directory does not say.
    pub key: Option<PodKey>,
    /// When its directory was made, or last changed.
    pub at: SystemTime,
    /// The directory with a file `CONTAINER.log` for each container, `CONTAINER.log.1` and so on
    /// with what is older, and `CONTAINER.started` with the date of its newest run.
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
