//! What a pod's containers have printed, from their files.
//!
//! Read in this order: [`files`] (one text out of files that rotate), [`reader`] (lines out of
//! records), and here `everynode-agent logs`, for people at the machine
//! ([`crate::streams`] is for people elsewhere).

mod files;
mod reader;

use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

use everynode_model::{PodKey, pod_name};
use everynode_runtime::{Alive, PodLogs, Run};

use crate::cli::LogsArgs;
use crate::people::run_dir;
pub(crate) use reader::{Ahead, Reader, Wish};

/// Between two looks at files that are followed.
pub(crate) const BETWEEN_LOOKS: Duration = Duration::from_millis(200);
/// What is printed at once.
const AT_ONCE: usize = 64 * 1024;
/// Said where lines were removed before they were read.
pub(crate) const GAP: &str =
    "everynode: lines are missing here: they were removed before they were read";

/// Why there is nothing to print.
#[derive(Debug, thiserror::Error)]
pub(crate) enum LogsError {
    #[error(
        "no logs of {key} in {run_dir}: neither a pod of that DaemonSet nor a pod of that name \
         has any here (what runs is listed by `everynode-agent pods`)"
    )]
    None { key: PodKey, run_dir: PathBuf },
    #[error("container {name} is not in the pod: it has {all}")]
    Container { name: String, all: String },
    #[error("the pod has printed nothing yet")]
    Silent,
    #[error("no earlier run of container {0} has printed anything that is still here")]
    NoPrevious(String),
    #[error("{0}: {1}")]
    Read(PathBuf, io::Error),
    #[error("{0}")]
    Io(#[from] io::Error),
}

/// Prints the logs of the newest pod in the place `key`, or of the pod of that name or uid.
///
/// # Errors
/// When there are none, or they can't be read.
pub(crate) async fn print(
    data_dir: &Path,
    cgroup_root: &Path,
    key: &PodKey,
    args: &LogsArgs,
    out: &mut (dyn Write + Send),
) -> Result<(), LogsError> {
    let run_dir = run_dir(data_dir);
    let found =
        everynode_runtime::logs(&run_dir).map_err(|e| LogsError::Read(run_dir.clone(), e))?;
    // Without cgroups the directories alone have to say whose they are.
    let alive = everynode_runtime::alive(cgroup_root).unwrap_or_default();
    let pod = choose(&found, &alive, key);
    let pod = pod.ok_or_else(|| LogsError::None { key: key.clone(), run_dir })?;
    let container = container(&pod.directory, args.container.as_deref())?;
    let wish = Wish {
        run: if args.previous { Run::Previous } else { Run::Present },
        tail: u64::try_from(args.tail).ok(),
        since: None,
        timestamps: args.timestamps,
    };
    let read = |error| LogsError::Read(pod.directory.clone(), error);
    let open = |wish| Reader::open(pod.directory.clone(), &container, wish).map_err(read);
    let mut reader = open(wish.clone())?;
    if args.previous && !reader.exists() {
        return Err(LogsError::NoPrevious(container));
    }
    loop {
        let over = print_some(&mut reader, args.follow, out).map_err(read)?;
        out.flush()?;
        match (args.follow, over) {
            (true, true) if pod.directory.exists() => {
                // The container was started anew.
                reader = open(Wish { tail: None, ..wish.clone() })?;
            }
            (true, false) => tokio::time::sleep(BETWEEN_LOOKS).await,
            _ => return Ok(()),
        }
    }
}

/// Prints what there is; whether nothing more can come.
fn print_some(reader: &mut Reader, follow: bool, out: &mut (dyn Write + Send)) -> io::Result<bool> {
    loop {
        let (text, ahead) = reader.piece(AT_ONCE, !follow)?;
        out.write_all(&text)?;
        match ahead {
            Ahead::More => {}
            Ahead::Gap => drop(writeln!(io::stderr(), "{GAP}")),
            Ahead::Nothing => return Ok(false),
            Ahead::Over => return Ok(true),
        }
    }
}

/// What lives before what does not, and then the newest.
fn choose<'a>(found: &'a [PodLogs], alive: &[Alive], key: &PodKey) -> Option<&'a PodLogs> {
    let place = |logs: &PodLogs| {
        let living = alive.iter().find(|alive| alive.pod == Some(logs.pod));
        living.map(|alive| alive.key.clone()).or_else(|| logs.key.clone())
    };
    let named = |logs: &&PodLogs| {
        let Some(of) = place(logs) else { return logs.pod.to_string() == key.name() };
        let name = pod_name(&of, logs.pod.uuid().as_bytes());
        of == *key
            || (of.namespace() == key.namespace() && name == key.name())
            || logs.pod.to_string() == key.name()
    };
    let lives = |logs: &PodLogs| alive.iter().any(|alive| alive.pod == Some(logs.pod));
    found.iter().filter(named).max_by_key(|logs| (lives(logs), logs.at))
}

/// The container that was asked for, or the first.
fn container(directory: &Path, wanted: Option<&str>) -> Result<String, LogsError> {
    let read = |error| LogsError::Read(directory.to_owned(), error);
    let mut names = Vec::new();
    for entry in fs::read_dir(directory).map_err(read)? {
        let name = entry.map_err(read)?.file_name();
        let name = name.to_str().map(|name| name.trim_end_matches(".previous"));
        names.extend(name.and_then(|name| name.strip_suffix(".log")).map(str::to_owned));
    }
    names.sort();
    names.dedup();
    let all = names.join(", ");
    match wanted {
        Some(name) if names.iter().any(|known| known == name) => Ok(name.to_owned()),
        Some(name) if !names.is_empty() => Err(LogsError::Container { name: name.into(), all }),
        _ => {
            let first = names.first().cloned().ok_or(LogsError::Silent)?;
            if names.len() > 1 {
                let _ = writeln!(io::stderr(), "Defaulted container \"{first}\" out of: {all}");
            }
            Ok(first)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use everynode_model::PodUid;
    use std::time::SystemTime;

    #[test]
    fn what_lives_comes_first_and_a_pod_may_be_named_itself() {
        let pod = |number: u128, at: u64| PodLogs {
            pod: PodUid::new(uuid::Uuid::from_u128(number)),
            key: PodKey::new("default", "a").ok(),
            at: SystemTime::UNIX_EPOCH + Duration::from_secs(at),
            directory: PathBuf::new(),
        };
        let found = [pod(1, 1), pod(2, 2)];
        let key = |name: &str| PodKey::new("default", name).unwrap();
        let chosen =
            |alive: &[Alive], name: &str| choose(&found, alive, &key(name)).map(|logs| logs.pod);
        assert_eq!(chosen(&[], "a"), Some(found[1].pod));
        let living = Alive {
            key: key("a"),
            pod: Some(found[0].pod),
            marks: None,
            supervised: true,
            containers: Vec::new(),
        };
        assert_eq!(chosen(&[living], "a"), Some(found[0].pod));
        let name = pod_name(&key("a"), found[0].pod.uuid().as_bytes());
        assert_eq!(chosen(&[], &name), Some(found[0].pod));
        assert_eq!(chosen(&[], &found[0].pod.to_string()), Some(found[0].pod));
        assert_eq!(chosen(&[], "b"), None);
    }
}
