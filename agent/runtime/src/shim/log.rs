//! A container's log: its output in the CRI's line format, in files that rotate.
//!
//! ```text
//!   2026-01-02T03:04:05.123456789Z stdout F a whole line
//!   2026-01-02T03:04:05.123456790Z stderr P the first 16 KiB of a long one
//! ```
//!
//! (The kubelet's format for `/var/log/pods`, so that every log collector reads it.) Each run has
//! files of its own, and those of the run before are kept (see [`mod@crate::logs`]). Writing never
//! holds a container up: where the disk refuses, lines are dropped and counted, and one line says
//! so when it takes them again.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

use everynode_model::{Gatherer, LogTail};

use crate::log_date::LogDate;
use crate::logs::{Run, log_file};

/// The longest piece of a line in one record, as in containerd and CRI-O.
const MAX_RECORD: usize = 16 * 1024;

/// When a file is full where nobody says, in bytes: the kubelet's `containerLogMaxSize`.
pub const MAX_LOG_FILE: u64 = 10 * 1024 * 1024;

/// How many files there are of one run: the kubelet's `containerLogMaxFiles`.
const FILES: usize = 5;

/// Which of a container's outputs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stream {
    Stdout,
    Stderr,
}

/// The log of one container, over all its runs.
pub(super) struct Log {
    directory: PathBuf,
    container: String,
    file: Option<(File, u64)>,
    /// Whether there was a run already.
    begun: bool,
    max_file: u64,
    /// Records that the disk did not take.
    dropped: u64,
    /// The last lines of the present run, also where the disk takes none.
    tail: Tail,
}

/// What is kept in memory of a run's end, from both streams as it came.
#[derive(Default)]
struct Tail {
    gatherer: Gatherer,
    /// Whether stdout, or stderr, is within a line whose first piece was taken.
    within: [bool; 2],
}

/// The lines of one stream, as they come in pieces.
#[derive(Default)]
pub(super) struct Lines {
    begun: Vec<u8>,
}

impl Stream {
    const fn as_str(self) -> &'static str {
        match self {
            Self::Stdout => "stdout",
            Self::Stderr => "stderr",
        }
    }
}

impl Lines {
    /// Takes a piece of output and calls back with each record: its bytes, and whether it ends a
    /// line.
    pub(super) fn push(&mut self, mut piece: &[u8], mut record: impl FnMut(&[u8], bool)) {
        while !piece.is_empty() {
            let room = MAX_RECORD - self.begun.len();
            let (taken, ends_line) = match piece.iter().take(room + 1).position(|b| *b == b'\n') {
                Some(end) => (end, true),
                None => (piece.len().min(room), false),
            };
            self.begun.extend_from_slice(&piece[..taken]);
            piece = &piece[taken + usize::from(ends_line)..];
            // A full piece is held back until it is known whether its line ends right there.
            let overfull = self.begun.len() == MAX_RECORD && !piece.is_empty();
            if ends_line || overfull {
                record(&self.begun, ends_line);
                self.begun.clear();
            }
        }
    }

    /// Ends a line that was begun: its writer is gone.
    pub(super) fn finish(&mut self, mut record: impl FnMut(&[u8], bool)) {
        if !self.begun.is_empty() {
            record(&self.begun, true);
        }
        self.begun = Vec::new();
    }
}

impl Tail {
    /// Of a line in pieces the first is longer than what is kept of it.
    fn push(&mut self, stream: Stream, record: &[u8], ends: bool) {
        let within = &mut self.within[usize::from(stream == Stream::Stderr)];
        if !std::mem::replace(within, !ends) {
            self.gatherer.push(&String::from_utf8_lossy(record));
        }
    }
}

impl Log {
    /// The log of a container in this directory, which is made with its first line.
    /// A file that has `max_file` bytes is full.
    pub(super) fn new(directory: &Path, container: &str, max_file: u64) -> Self {
        Self {
            directory: directory.to_owned(),
            container: container.to_owned(),
            file: None,
            begun: false,
            max_file,
            dropped: 0,
            tail: Tail::default(),
        }
    }

    /// A run begins, with a file of its own. Only people ask for the one before, so a disk that
    /// refuses keeps nothing from starting: both are in one file then.
    pub(super) fn begin_run(&mut self) {
        self.tail = Tail::default();
        self.file = None;
        if std::mem::replace(&mut self.begun, true) {
            self.keep_as_previous();
        }
    }

    /// The last lines of the run that is over.
    pub(super) fn take_tail(&mut self) -> LogTail {
        std::mem::take(&mut self.tail).gatherer.tail()
    }

    /// Writes the records of one piece of output, all with this date (since 1970).
    pub(super) fn write(&mut self, stream: Stream, lines: &mut Lines, piece: &[u8], at: Duration) {
        let (mut batch, mut count) = (Vec::new(), 0);
        let tail = &mut self.tail;
        lines.push(piece, |record, ends| {
            tail.push(stream, record, ends);
            format_record(&mut batch, stream, record, ends, at);
            count += 1;
        });
        self.append(&batch, count, at);
    }

    /// Writes what was begun and will not be ended by its writer.
    pub(super) fn finish(&mut self, stream: Stream, lines: &mut Lines, at: Duration) {
        let mut batch = Vec::new();
        let tail = &mut self.tail;
        lines.finish(|record, ends| {
            tail.push(stream, record, ends);
            format_record(&mut batch, stream, record, ends, at);
        });
        self.append(&batch, 1, at);
    }

    fn append(&mut self, batch: &[u8], records: usize, at: Duration) {
        if batch.is_empty() {
            return;
        }
        let notice = self.notice(at);
        if self.try_append(&notice).and_then(|()| self.try_append(batch)).is_ok() {
            self.dropped = 0;
        } else {
            self.dropped = self.dropped.saturating_add(records as u64);
            // Opened anew for the next: a file that was removed or remounted is found again.
            self.file = None;
        }
    }

    fn notice(&self, at: Duration) -> Vec<u8> {
        let mut notice = Vec::new();
        if self.dropped > 0 {
            let text = format!("everynode: {} lines dropped, the disk took none", self.dropped);
            format_record(&mut notice, Stream::Stderr, text.as_bytes(), true, at);
        }
        notice
    }

    /// Appends all or nothing.
    fn try_append(&mut self, bytes: &[u8]) -> io::Result<()> {
        if bytes.is_empty() {
            return Ok(());
        }
        if matches!(self.file, Some((_, size)) if size + bytes.len() as u64 > self.max_file) {
            self.file = None;
            self.rotate();
        }
        if self.file.is_none() {
            let file = self.open()?;
            let size = file.metadata()?.len();
            self.file = Some((file, size));
        }
        let Some((file, size)) = &mut self.file else { return Ok(()) };
        if let Err(error) = file.write_all(bytes) {
            // Half a record would spoil the next one.
            let _ = file.set_len(*size);
            return Err(error);
        }
        *size += bytes.len() as u64;
        Ok(())
    }

    /// With its directory, which is not there where the disk took none when the pod was made.
    fn open(&self) -> io::Result<File> {
        let mut options = OpenOptions::new();
        options.append(true).create(true).mode(0o640);
        let path = self.numbered(0);
        match options.open(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                DirBuilder::new().recursive(true).mode(0o700).create(&self.directory)?;
                options.open(&path)
            }
            opened => opened,
        }
    }

    /// `.log` becomes `.log.1`, and so on; the oldest goes. Where renaming fails the file is
    /// emptied: a full disk is worse than a lost log.
    fn rotate(&self) {
        for number in (1..FILES).rev() {
            let from = self.numbered(number - 1);
            if fs::rename(&from, self.numbered(number)).is_err() && number == 1 {
                let _ = OpenOptions::new().write(true).truncate(true).open(from);
            }
        }
    }

    /// Newest first, so that a reader who looks from newer to older misses none.
    fn keep_as_previous(&self) {
        let previous = |number| log_file(&self.directory, &self.container, Run::Previous, number);
        for number in 0..FILES {
            if fs::rename(self.numbered(number), previous(number)).is_err() {
                let _ = fs::remove_file(previous(number));
            }
        }
        // A run that printed nothing was one all the same.
        let _ = OpenOptions::new().create(true).append(true).mode(0o640).open(previous(0));
    }

    fn numbered(&self, number: usize) -> PathBuf {
        log_file(&self.directory, &self.container, Run::Present, number)
    }
}

fn format_record(out: &mut Vec<u8>, stream: Stream, record: &[u8], ends: bool, at: Duration) {
    let tag = if ends { 'F' } else { 'P' };
    // Writing to memory can't fail.
    let _ = write!(out, "{} {} {tag} ", LogDate(at), stream.as_str());
    out.extend_from_slice(record);
    out.push(b'\n');
}

#[cfg(test)]
mod tests {
    use super::*;

    const AT: Duration = Duration::new(1_767_323_045, 123_456_789);

    fn records(pieces: &[&[u8]]) -> Vec<(usize, bool)> {
        let (mut lines, mut out) = (Lines::default(), Vec::new());
        for piece in pieces {
            lines.push(piece, |record, ends| out.push((record.len(), ends)));
        }
        lines.finish(|record, ends| out.push((record.len(), ends)));
        out
    }

    fn names(directory: &Path) -> Vec<String> {
        let entries = fs::read_dir(directory).unwrap();
        let mut names: Vec<_> =
            entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }

    #[test]
    fn lines_come_out_whole_however_they_came_in() {
        assert_eq!(
            records(&[b"ab\n\ncd", b"ef\n", b"x"]),
            [(2, true), (0, true), (4, true), (1, true)]
        );
        let long = vec![b'x'; MAX_RECORD];
        assert_eq!(records(&[&long, b"\n"]), [(MAX_RECORD, true)]);
        assert_eq!(records(&[&long, b"y\n"]), [(MAX_RECORD, false), (1, true)]);
        let longer = [long.as_slice(), &long, b"z\n"].concat();
        assert_eq!(records(&[&longer]), [(MAX_RECORD, false), (MAX_RECORD, false), (1, true)]);
    }

    #[test]
    fn the_format_is_the_cris() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("a.log");
        let mut log = Log::new(directory.path(), "a", MAX_LOG_FILE);
        let mut lines = Lines::default();
        log.write(Stream::Stdout, &mut lines, b"hello\nwor", AT);
        log.finish(Stream::Stdout, &mut lines, AT);
        assert_eq!(
            fs::read_to_string(path).unwrap(),
            "2026-01-02T03:04:05.123456789Z stdout F hello\n\
             2026-01-02T03:04:05.123456789Z stdout F wor\n"
        );
    }

    #[test]
    fn files_rotate_and_the_oldest_goes() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("a.log");
        let mut log = Log::new(directory.path(), "a", 60);
        let mut lines = Lines::default();
        for number in 0..8 {
            log.write(Stream::Stderr, &mut lines, format!("line {number}\n").as_bytes(), AT);
        }
        assert_eq!(names(directory.path()), ["a.log", "a.log.1", "a.log.2", "a.log.3", "a.log.4"]);
        assert!(fs::read_to_string(&path).unwrap().ends_with("line 7\n"));
        assert!(fs::read_to_string(directory.path().join("a.log.4")).unwrap().contains("line 3"));
    }

    #[test]
    fn the_run_before_is_kept_with_all_its_files_and_no_other() {
        let directory = tempfile::tempdir().unwrap();
        let mut log = Log::new(directory.path(), "a", 60);
        let mut lines = Lines::default();
        for (run, count) in [(1, 5), (2, 2), (3, 1)] {
            log.begin_run();
            for number in 0..count {
                let line = format!("run {run}, line {number}\n");
                log.write(Stream::Stdout, &mut lines, line.as_bytes(), AT);
            }
        }
        let expected = ["a.log", "a.log.previous", "a.log.previous.1"];
        assert_eq!(names(directory.path()), expected);
        let read = |name: &str| fs::read_to_string(directory.path().join(name)).unwrap();
        assert!(read("a.log").contains("run 3, line 0"));
        assert!(read("a.log.previous").contains("run 2, line 1"));
        assert!(read("a.log.previous.1").contains("run 2, line 0"));
        // One that prints nothing is one, too.
        log.begin_run();
        log.begin_run();
        assert_eq!(names(directory.path()), ["a.log.previous"]);
        assert_eq!(read("a.log.previous"), "");
    }

    #[test]
    fn a_directory_that_is_not_there_yet_is_made_with_the_first_line() {
        let directory = tempfile::tempdir().unwrap();
        let logs = directory.path().join("pod/logs");
        Log::new(&logs, "a", MAX_LOG_FILE).write(
            Stream::Stdout,
            &mut Lines::default(),
            b"kept\n",
            AT,
        );
        assert!(fs::read_to_string(logs.join("a.log")).unwrap().ends_with("stdout F kept\n"));
    }

    #[test]
    fn the_end_of_a_run_is_kept_without_the_disk_and_without_the_run_before() {
        let mut log = Log::new(Path::new("/dev/null/logs"), "a", MAX_LOG_FILE);
        let (mut out, mut err) = (Lines::default(), Lines::default());
        log.write(Stream::Stdout, &mut out, b"former run\n", AT);
        log.begin_run();
        let long = [vec![b'x'; MAX_RECORD * 2], b"\n".to_vec()].concat();
        log.write(Stream::Stdout, &mut out, &long, AT);
        log.write(Stream::Stderr, &mut err, b"\xff\ncut sho", AT);
        log.finish(Stream::Stderr, &mut err, AT);
        let tail = log.take_tail();
        let lines: Vec<_> = tail.as_str().lines().collect();
        assert!(lines[0].starts_with("xxx") && lines[0].ends_with('…'));
        assert_eq!(lines[1..], ["\u{fffd}", "cut sho"]);
        assert_eq!(log.take_tail(), LogTail::default());
    }

    #[test]
    fn what_the_disk_refuses_is_counted_and_said_later() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("a.log");
        std::os::unix::fs::symlink("/dev/full", &path).unwrap();
        let mut log = Log::new(directory.path(), "a", MAX_LOG_FILE);
        let mut lines = Lines::default();
        log.write(Stream::Stdout, &mut lines, b"lost\nlost too\n", AT);
        fs::remove_file(&path).unwrap();
        log.write(Stream::Stdout, &mut lines, b"kept\n", AT);
        let text = fs::read_to_string(path).unwrap();
        let ends: Vec<_> = text.lines().map(|line| &line[31..]).collect();
        assert_eq!(
            ends,
            ["stderr F everynode: 2 lines dropped, the disk took none", "stdout F kept"]
        );
    }
}
