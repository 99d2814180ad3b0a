//! What a container has printed, as it printed it: records become lines again.
//!
//! ```text
//!   2026-01-02T03:04:05.123456789Z stdout F a whole line               the kubelet's format
//!   2026-01-02T03:04:05.123456789Z stderr P a piece of a long one
//! ```
//!
//! Reads files, so it waits for disks. It holds no more than a line of each output at a time.

use std::io;
use std::path::PathBuf;

use everynode_runtime::{Run, newest_run_since};

use super::files::{Files, Next};

/// A line that is longer is passed on in pieces, between which one of the other output may come.
const MAX_LINE: usize = 256 * 1024;

/// So much is read before the caller is asked again whether it wants more: some ten milliseconds.
const MAX_READ: usize = 4 * 1024 * 1024;

/// Which lines, and how.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Wish {
    /// Of which run.
    pub(crate) run: Run,
    /// Only so many of the last ones.
    pub(crate) tail: Option<u64>,
    /// Only those of this date ([`everynode_runtime::LogDate`]) and later.
    pub(crate) since: Option<String>,
    /// Each with its date.
    pub(crate) timestamps: bool,
}

/// See the module.
#[derive(Debug)]
pub(crate) struct Reader {
    files: Files,
    filter: Filter,
    timestamps: bool,
    /// So many lines are still to be passed over.
    skip: u64,
    /// Of stdout and of stderr.
    begun: [Option<Line>; 2],
    record: Vec<u8>,
}

/// What came of reading on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ahead {
    /// There is more.
    More,
    /// Lines were removed before they were read; then there may be more.
    Gap,
    /// Nothing more, so far.
    Nothing,
    /// Nothing more, ever: the run is over, or the pod is gone.
    Over,
}

/// By dates of records, as text.
#[derive(Clone, Debug)]
struct Filter {
    since: Option<String>,
    /// Only what is older: an earlier run, where all runs are in one file.
    before: Option<String>,
}

/// A line, or the next piece of a very long one.
#[derive(Debug)]
struct Line {
    /// Empty for a further piece.
    at: Vec<u8>,
    text: Vec<u8>,
}

impl Reader {
    /// Of a container's logs in this directory.
    ///
    /// # Errors
    /// When they can't be read.
    pub(crate) fn open(directory: PathBuf, container: &str, wish: Wish) -> io::Result<Self> {
        let newest = newest_run_since(&directory, container);
        let filter = Filter::new(wish.run, wish.since, newest.clone());
        // All in one file, where there is such a date.
        let run = if newest.is_some() { Run::Present } else { wish.run };
        let mut files = Files::open(directory, container, run)?;
        let counts = |record: &[u8]| ends_line(record) && filter.wants(record);
        let skip = match wish.tail {
            Some(lines) => files.keep_last(lines, counts)?,
            None => 0,
        };
        let (begun, record) = ([None, None], Vec::new());
        Ok(Self { files, filter, timestamps: wish.timestamps, skip, begun, record })
    }

    /// Whether there is anything of that run.
    pub(crate) fn exists(&self) -> bool {
        self.files.exist()
    }

    /// Reads lines of `most` bytes or more, at most by one line, and says what is ahead. With `last`, or
    /// where nothing more can come, also what was begun and is not going to be ended.
    ///
    /// # Errors
    /// When the files can't be read.
    pub(crate) fn piece(&mut self, most: usize, last: bool) -> io::Result<(Vec<u8>, Ahead)> {
        let mut text = Vec::new();
        let ahead = self.read(&mut text, most)?;
        if ahead == Ahead::Over || (ahead == Ahead::Nothing && last) {
            self.finish(&mut text);
        }
        Ok((text, ahead))
    }

    fn read(&mut self, out: &mut Vec<u8>, most: usize) -> io::Result<Ahead> {
        let mut read = 0;
        while out.len() < most && read < MAX_READ {
            match self.files.next(&mut self.record)? {
                Next::Record => {
                    read += self.record.len();
                    self.take(out);
                }
                Next::Gap => return Ok(Ahead::Gap),
                Next::Nothing => return Ok(Ahead::Nothing),
                Next::Over => return Ok(Ahead::Over),
            }
        }
        Ok(Ahead::More)
    }

    fn finish(&mut self, out: &mut Vec<u8>) {
        for line in std::mem::take(&mut self.begun).into_iter().flatten() {
            self.write(&line, out);
        }
    }

    /// Takes in the record that was read.
    fn take(&mut self, out: &mut Vec<u8>) {
        let record = std::mem::take(&mut self.record);
        let mut words = record.splitn(4, |byte| *byte == b' ');
        let (Some(at), Some(stream), Some(tag), Some(text)) =
            (words.next(), words.next(), words.next(), words.next())
        else {
            // Not a record as we write them: as it is.
            if self.skip == 0 {
                out.extend_from_slice(&record);
            }
            self.record = record;
            return;
        };
        let partial = tag == b"P";
        let text = if partial { text.strip_suffix(b"\n").unwrap_or(text) } else { text };
        let begun = &mut self.begun[usize::from(stream == b"stderr")];
        let line = begun.get_or_insert_with(|| Line { at: at.to_vec(), text: Vec::new() });
        line.text.extend_from_slice(text);
        if !partial {
            // The date of its end decides, as it does for what is counted.
            let line = begun.take().filter(|_| self.filter.wants(&record));
            match (line, self.skip) {
                (Some(line), 0) => self.write(&line, out),
                (Some(_), _) => self.skip -= 1,
                (None, _) => {}
            }
        } else if line.text.len() > MAX_LINE {
            let further = Line { at: Vec::new(), text: Vec::new() };
            if let Some(line) = begun.replace(further)
                && self.skip == 0
                && self.filter.wants(&record)
            {
                self.write(&line, out);
            }
        }
        self.record = record;
    }

    fn write(&self, line: &Line, out: &mut Vec<u8>) {
        if self.timestamps && !line.at.is_empty() {
            out.extend_from_slice(&line.at);
            out.push(b' ');
        }
        out.extend_from_slice(&line.text);
    }
}

impl Filter {
    /// Where all runs are in one file, the date at which the `newest` one began tells them apart.
    fn new(run: Run, since: Option<String>, newest: Option<String>) -> Self {
        match run {
            Run::Previous => Self { since, before: newest },
            Run::Present => Self { since: since.max(newest), before: None },
        }
    }

    fn wants(&self, record: &[u8]) -> bool {
        self.since.as_ref().is_none_or(|since| record >= since.as_bytes())
            && self.before.as_ref().is_none_or(|before| record < before.as_bytes())
    }
}

fn ends_line(record: &[u8]) -> bool {
    record.splitn(4, |byte| *byte == b' ').nth(2) != Some(b"P")
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    const RECORDS: &str = "2026-01-01T00:00:01.000000000Z stdout F one\n\
        2026-01-01T00:00:02.000000000Z stderr P tw\n\
        2026-01-01T00:00:02.000000000Z stdout F between\n\
        2026-01-01T00:00:02.000000000Z stderr F o\n\
        2026-01-01T00:00:03.000000000Z stdout F three\n";
    const MORE: &str = "2026-01-01T00:00:04.000000000Z stdout F four\n2026-01-01T00:00:05.0 std";

    fn wish() -> Wish {
        Wish { run: Run::Present, tail: None, since: None, timestamps: false }
    }

    fn read(directory: &std::path::Path, wish: Wish) -> String {
        let mut reader = Reader::open(directory.to_owned(), "c", wish).unwrap();
        let mut out = Vec::new();
        assert!(matches!(reader.read(&mut out, usize::MAX).unwrap(), Ahead::Nothing | Ahead::Over));
        reader.finish(&mut out);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn lines_come_out_as_they_were_printed() {
        let directory = tempfile::tempdir().unwrap();
        fs::write(directory.path().join("c.log.1"), RECORDS).unwrap();
        fs::write(directory.path().join("c.log"), MORE).unwrap();
        let read = |wish| read(directory.path(), wish);
        let tail = |lines| read(Wish { tail: Some(lines), ..wish() });
        assert_eq!(read(wish()), "one\nbetween\ntwo\nthree\nfour\n");
        assert_eq!([tail(0), tail(1), tail(2)], ["", "four\n", "three\nfour\n"]);
        assert_eq!(tail(3), "two\nthree\nfour\n");
        assert_eq!(tail(9), "one\nbetween\ntwo\nthree\nfour\n");
        let timed = read(Wish { tail: Some(3), timestamps: true, ..wish() });
        assert!(timed.starts_with("2026-01-01T00:00:02.000000000Z two\n2026"), "{timed}");
        let since = Some("2026-01-01T00:00:03.000000000Z".to_owned());
        assert_eq!(read(Wish { since: since.clone(), ..wish() }), "three\nfour\n");
        assert_eq!(read(Wish { since, tail: Some(1), ..wish() }), "four\n");
    }

    #[test]
    fn runs_in_one_file_are_told_apart_by_the_date_that_was_noted() {
        let directory = tempfile::tempdir().unwrap();
        fs::write(directory.path().join("c.log"), RECORDS).unwrap();
        let started = "2026-01-01T00:00:03.000000000Z";
        fs::write(directory.path().join("c.started"), started).unwrap();
        assert_eq!(read(directory.path(), wish()), "three\n");
        let previous = Wish { run: Run::Previous, ..wish() };
        assert_eq!(read(directory.path(), previous), "one\nbetween\ntwo\n");
    }

    #[test]
    fn a_line_without_end_is_passed_on_in_pieces() {
        let directory = tempfile::tempdir().unwrap();
        let piece = format!("2026-01-01T00:00:01.000000000Z stdout P {}\n", "x".repeat(16 * 1024));
        fs::write(directory.path().join("c.log"), piece.repeat(40)).unwrap();
        let mut reader =
            Reader::open(directory.path().to_owned(), "c", Wish { timestamps: true, ..wish() })
                .unwrap();
        let mut out = Vec::new();
        assert_eq!(reader.read(&mut out, 1).unwrap(), Ahead::More);
        assert!(out.len() < MAX_LINE + 2 * 16 * 1024, "{}", out.len());
        assert_eq!(reader.read(&mut out, usize::MAX).unwrap(), Ahead::Nothing);
        reader.finish(&mut out);
        assert_eq!(out.len(), 40 * 16 * 1024 + "2026-01-01T00:00:01.000000000Z ".len());
    }

    #[test]
    fn what_a_power_cut_has_left_hides_nothing_that_follows() {
        let directory = tempfile::tempdir().unwrap();
        let zeroes = vec![0; 128 * 1024];
        let records = [zeroes.as_slice(), b"\n", RECORDS.as_bytes()].concat();
        fs::write(directory.path().join("c.log"), records).unwrap();
        assert!(read(directory.path(), wish()).ends_with("one\nbetween\ntwo\nthree\n"));
    }
}
