//! `everynode-agent logs`: what a pod's containers have printed, from their files.
//!
//! ```text
//!   <data-dir>/run/<pod uid>/logs/<container>.log.4 … .log.1 .log      older to newer
//!   2026-01-02T03:04:05.123456789Z stdout F a whole line               the kubelet's format
//! ```

use std::collections::VecDeque;
use std::fs::{self, File};
use std::io::{self, BufRead as _, BufReader, Read as _, Seek as _, SeekFrom, Write};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use everynode_model::{PodKey, pod_name};
use everynode_runtime::{Alive, PodLogs};

use crate::cli::LogsArgs;
use crate::people::run_dir;

/// How many rotated files are looked for beside the one that is written: twice what there are.
const ROTATED: usize = 8;
/// Between two looks at a file that is followed.
const BETWEEN_LOOKS: Duration = Duration::from_millis(200);
/// More of a line than is ever written in one record.
const MAX_LINE: u64 = 64 * 1024;

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

/// Which lines to print, and how.
struct Printer<'a> {
    out: &'a mut (dyn Write + Send),
    timestamps: bool,
    /// Only what is older than this date.
    before: Option<String>,
    /// Whether the last record did not end its line.
    within_line: bool,
    printed: bool,
}

/// The last so many lines, each of one record or several.
struct Tail {
    lines: usize,
    /// How many of the records end a line.
    ended: usize,
    records: VecDeque<Vec<u8>>,
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
    let path = pod.directory.join(format!("{container}.log"));
    let before = match args.previous {
        true => match fs::read_to_string(path.with_extension("started")) {
            Ok(date) => Some(date),
            Err(_) => return Err(LogsError::NoPrevious(container)),
        },
        false => None,
    };
    let mut printer =
        Printer { out, timestamps: args.timestamps, before, within_line: false, printed: false };
    let newest = File::open(&path).map_err(|error| LogsError::Read(path.clone(), error))?;
    let mut newest = printer.print_all(&path, newest, args.tail)?;
    if args.previous && !printer.printed {
        return Err(LogsError::NoPrevious(container));
    }
    printer.out.flush()?;
    if args.follow {
        while let Some(next) = printer.go_on(&path, newest)? {
            newest = next;
            printer.out.flush()?;
            tokio::time::sleep(BETWEEN_LOOKS).await;
        }
        printer.out.flush()?;
    }
    Ok(())
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
        names.extend(name.to_str().and_then(|name| name.strip_suffix(".log")).map(str::to_owned));
    }
    names.sort();
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

impl Printer<'_> {
    /// Prints the rotated files and then `newest`, all or the last `tail` lines; gives `newest`
    /// back where it ended.
    fn print_all(&mut self, path: &Path, newest: File, tail: i64) -> Result<File, LogsError> {
        let mut last = usize::try_from(tail).ok().map(Tail::of);
        let own = newest.metadata()?.ino();
        for number in (1..=ROTATED).rev() {
            let Ok(older) = File::open(path.with_added_extension(number.to_string())) else {
                continue;
            };
            // It may have been rotated since it was opened.
            if older.metadata()?.ino() != own {
                self.read(older, &mut last)?;
            }
        }
        let newest = self.read(newest, &mut last)?;
        for record in last.into_iter().flat_map(|tail| tail.records) {
            self.record(&record)?;
        }
        Ok(newest)
    }

    /// Prints what has come since; `None` when the pod is gone.
    fn go_on(&mut self, path: &Path, newest: File) -> Result<Option<File>, LogsError> {
        let own = newest.metadata()?.ino();
        let newest = self.read(newest, &mut None)?;
        match File::open(path) {
            Ok(next) if next.metadata()?.ino() != own => {
                // Rotated. What was written to the old one in between is there now.
                self.read(newest, &mut None)?;
                self.read(next, &mut None).map(Some)
            }
            Ok(_) => Ok(Some(newest)),
            Err(_) if path.parent().is_some_and(Path::exists) => Ok(Some(newest)),
            Err(_) => Ok(None),
        }
    }

    /// Reads whole records to the end of a file, and prints them or keeps the last.
    fn read(&mut self, file: File, last: &mut Option<Tail>) -> Result<File, LogsError> {
        let mut reader = BufReader::new(file);
        loop {
            let mut record = Vec::new();
            let read = reader.by_ref().take(MAX_LINE).read_until(b'\n', &mut record)?;
            let overlong = u64::try_from(read).is_ok_and(|read| read == MAX_LINE);
            if record.last() != Some(&b'\n') && !overlong {
                // Just being written: read again from its beginning. What is longer than any record
                // was left by a power cut; it is passed on, so that what follows is seen.
                let back = i64::try_from(read).unwrap_or(0);
                reader.seek_relative(-back)?;
                let at = reader.stream_position()?;
                let mut file = reader.into_inner();
                file.seek(SeekFrom::Start(at))?;
                return Ok(file);
            }
            match last {
                None => self.record(&record)?,
                Some(tail) => {
                    if self.counts(&record) {
                        tail.push(record);
                    }
                }
            }
        }
    }

    fn counts(&self, record: &[u8]) -> bool {
        self.before.as_ref().is_none_or(|before| record < before.as_bytes())
    }

    fn record(&mut self, record: &[u8]) -> io::Result<()> {
        if !self.counts(record) {
            return Ok(());
        }
        let mut words = record.splitn(4, |byte| *byte == b' ');
        let (Some(at), Some(_), Some(tag), Some(text)) =
            (words.next(), words.next(), words.next(), words.next())
        else {
            // Not a record as we write them: as it is.
            return self.out.write_all(record);
        };
        if self.timestamps && !self.within_line {
            self.out.write_all(at)?;
            self.out.write_all(b" ")?;
        }
        let partial = tag == b"P";
        let text = if partial { text.strip_suffix(b"\n").unwrap_or(text) } else { text };
        self.out.write_all(text)?;
        (self.within_line, self.printed) = (partial, true);
        Ok(())
    }
}

impl Tail {
    fn of(lines: usize) -> Self {
        Self { lines, ended: 0, records: VecDeque::new() }
    }

    /// Takes in the next record, and drops the lines that are too many.
    fn push(&mut self, record: Vec<u8>) {
        let begun = usize::from(!ends_line(&record));
        self.ended += 1 - begun;
        self.records.push_back(record);
        while self.ended + begun > self.lines {
            match self.records.pop_front() {
                Some(first) => self.ended -= usize::from(ends_line(&first)),
                None => break,
            }
        }
    }
}

fn ends_line(record: &[u8]) -> bool {
    record.splitn(4, |byte| *byte == b' ').nth(2) != Some(b"P")
}

#[cfg(test)]
mod tests {
    use super::*;
    use everynode_model::PodUid;
    use std::time::SystemTime;

    const RECORDS: &str = "2026-01-01T00:00:01.000000000Z stdout F one\n\
        2026-01-01T00:00:02.000000000Z stderr P tw\n\
        2026-01-01T00:00:02.000000000Z stderr F o\n\
        2026-01-01T00:00:03.000000000Z stdout F three\n";

    fn printed(change: impl FnOnce(&mut Printer<'_>), tail: i64) -> String {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("c.log");
        fs::write(directory.path().join("c.log.1"), RECORDS).unwrap();
        let more = "2026-01-01T00:00:04.000000000Z stdout F four\n2026-01-01T00:00:05.0 std";
        fs::write(&path, more).unwrap();
        let mut out = Vec::new();
        let mut printer = Printer {
            out: &mut out,
            timestamps: false,
            before: None,
            within_line: false,
            printed: false,
        };
        change(&mut printer);
        let mut rest = printer.print_all(&path, File::open(&path).unwrap(), tail).unwrap();
        assert_eq!(rest.stream_position().unwrap(), 45, "what is not whole is read again");
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn lines_come_out_as_they_were_printed() {
        assert_eq!(printed(|_| {}, -1), "one\ntwo\nthree\nfour\n");
        assert_eq!(printed(|_| {}, 2), "three\nfour\n");
        assert_eq!(printed(|_| {}, 3), "two\nthree\nfour\n");
        assert_eq!(printed(|_| {}, 0), "");
        let timed = printed(|printer| printer.timestamps = true, 3);
        assert!(timed.starts_with("2026-01-01T00:00:02.000000000Z two\n2026"), "{timed}");
        let before = Some("2026-01-01T00:00:03.000000000Z".to_owned());
        assert_eq!(printed(|printer| printer.before = before, -1), "one\ntwo\n");
    }

    #[test]
    fn what_a_power_cut_has_left_hides_nothing_that_follows() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("c.log");
        let zeroes = vec![0; 2 * usize::try_from(MAX_LINE).unwrap()];
        fs::write(&path, [zeroes.as_slice(), b"\n", RECORDS.as_bytes()].concat()).unwrap();
        let mut out = Vec::new();
        let mut printer = Printer {
            out: &mut out,
            timestamps: false,
            before: None,
            within_line: false,
            printed: false,
        };
        printer.print_all(&path, File::open(&path).unwrap(), -1).unwrap();
        assert!(out.ends_with(b"one\ntwo\nthree\n"));
    }

    #[test]
    fn a_rotated_file_is_gone_on_with_and_the_end_of_the_pod_is_the_end() {
        let directory = tempfile::tempdir().unwrap();
        let logs = directory.path().join("logs");
        fs::create_dir(&logs).unwrap();
        let path = logs.join("c.log");
        let line = |text: &str| format!("2026-01-01T00:00:01.000000000Z stdout F {text}\n");
        fs::write(&path, line("a")).unwrap();
        let mut out = Vec::new();
        let mut printer = Printer {
            out: &mut out,
            timestamps: false,
            before: None,
            within_line: false,
            printed: false,
        };
        let newest = printer.print_all(&path, File::open(&path).unwrap(), -1).unwrap();
        fs::OpenOptions::new()
            .append(true)
            .open(&path)
            .unwrap()
            .write_all(line("b").as_bytes())
            .unwrap();
        fs::rename(&path, logs.join("c.log.1")).unwrap();
        fs::write(&path, line("c")).unwrap();
        let newest = printer.go_on(&path, newest).unwrap().unwrap();
        fs::remove_dir_all(&logs).unwrap();
        assert!(printer.go_on(&path, newest).unwrap().is_none());
        assert_eq!(out, b"a\nb\nc\n");
    }

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
