//! The files of one run of a container, read as one text however they rotate meanwhile.
//!
//! ```text
//!   .log.2 ─▶ .log.1 ─▶ .log ──── at its end: what has become of the file that is open?
//!                        ▲  │  still .log ─────────────────────────── nothing new yet
//!                        │  │  .log.N: its rest, then .log.(N-1) ──── rotated
//!                        │  │  .log.previous.N: its rest, and so on ─ another run has begun
//!                        └──┘  no name any more ───────────────────── the oldest there is, and a gap
//! ```
//!
//! Files only ever get older names, and an open one can be read whatever it is called. So whoever
//! opens from newer to older misses none, and knows twice the same one by its inode.

use std::collections::VecDeque;
use std::fs::{File, Metadata};
use std::io::{self, BufRead as _, BufReader, Read as _, Seek as _, SeekFrom};
use std::os::unix::fs::MetadataExt as _;
use std::path::PathBuf;

use everynode_runtime::{Run, log_file};

/// How many files of a run are looked for: twice what there are.
const FILES: usize = 10;

/// More of a line than is ever written in one record.
const MAX_RECORD: u64 = 64 * 1024;

/// What is read of a file at once.
const BUFFER: usize = 32 * 1024;

/// See the module.
#[derive(Debug)]
pub(crate) struct Files {
    directory: PathBuf,
    container: String,
    run: Run,
    /// Oldest first; none of them is written any more but the last.
    older: VecDeque<File>,
    open: Option<Open>,
}

/// The file that is being read.
#[derive(Debug)]
struct Open {
    reader: BufReader<File>,
    at: u64,
    /// It was seen under an older name: what is in it now is all.
    is_full: bool,
}

/// What came of reading on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Next {
    /// A record.
    Record,
    /// Records were removed before they were read.
    Gap,
    /// Nothing more, so far.
    Nothing,
    /// Nothing more, ever.
    Over,
}

/// Under which name a file is found.
enum Name {
    Of(Run, usize),
    None,
}

impl Files {
    /// The files that there are of a run; there may be none yet.
    ///
    /// # Errors
    /// When one that is there can't be read.
    pub(crate) fn open(directory: PathBuf, container: &str, run: Run) -> io::Result<Self> {
        let container = container.to_owned();
        let mut files = Self { directory, container, run, older: VecDeque::new(), open: None };
        files.open_all()?;
        Ok(files)
    }

    /// Whether there is a file.
    pub(crate) fn exist(&self) -> bool {
        self.open.is_some() || !self.older.is_empty()
    }

    /// Drops the older files as far as the newer ones have at least one line more than `lines`, of
    /// those that `counts`; how many are too many of what is left.
    ///
    /// # Errors
    /// When they can't be read.
    pub(crate) fn keep_last(
        &mut self,
        lines: u64,
        counts: impl Fn(&[u8]) -> bool,
    ) -> io::Result<u64> {
        let (mut found, mut kept) = (0, 0);
        for file in self.older.iter_mut().rev() {
            kept += 1;
            found += count(file, &counts)?;
            // With one more, the first that is shown was not begun in a file that is dropped.
            if found > lines {
                break;
            }
        }
        self.older.drain(..self.older.len() - kept);
        Ok(found.saturating_sub(lines))
    }

    /// Reads the next whole record into `record`, in the place of what was there.
    ///
    /// # Errors
    /// When a file can't be read.
    pub(crate) fn next(&mut self, record: &mut Vec<u8>) -> io::Result<Next> {
        loop {
            let Some(open) = &mut self.open else {
                match self.older.pop_front() {
                    Some(file) => self.open = Some(Open::new(file)),
                    None if self.run == Run::Previous => return Ok(Next::Over),
                    None => {
                        self.open_all()?;
                        if self.older.is_empty() {
                            return Ok(if self.directory.exists() {
                                Next::Nothing
                            } else {
                                Next::Over
                            });
                        }
                    }
                }
                continue;
            };
            if open.read(record)? {
                return Ok(Next::Record);
            }
            if let Some(next) = self.at_end()? {
                return Ok(next);
            }
        }
    }

    /// Goes on to the next file; what is to be told if there is none.
    fn at_end(&mut self) -> io::Result<Option<Next>> {
        if let Some(next) = self.older.pop_front() {
            self.open = Some(Open::new(next));
            return Ok(None);
        }
        let Some(open) = &mut self.open else { return Ok(None) };
        let own = open.reader.get_ref().metadata()?;
        let name = find(&self.directory, &self.container, self.run, &own)?;
        if self.run == Run::Present && matches!(name, Name::Of(Run::Present, 0)) {
            return Ok(Some(if open.was_cut(&own)? { Next::Gap } else { Next::Nothing }));
        }
        if !std::mem::replace(&mut open.is_full, true) {
            // What was written to it between its end and its new name.
            return Ok(None);
        }
        match name {
            Name::Of(_, 0) => Ok(Some(Next::Over)),
            Name::Of(run, number) => {
                let file = |number| log_file(&self.directory, &self.container, run, number);
                let next = File::open(file(number - 1));
                // The older ones are renamed first: while this one has its name, that was the next.
                if !file(number).metadata().is_ok_and(|about| is_same(&about, &own)) {
                    return Ok(None);
                }
                match next {
                    // Not made yet, or just getting an older name.
                    Err(error) if error.kind() == io::ErrorKind::NotFound => {
                        Ok(Some(Next::Nothing))
                    }
                    next => {
                        self.open = Some(Open::new(next?));
                        Ok(None)
                    }
                }
            }
            Name::None if !self.directory.exists() || self.run == Run::Previous => {
                Ok(Some(Next::Over))
            }
            Name::None => {
                self.open = None;
                Ok(Some(Next::Gap))
            }
        }
    }

    fn open_all(&mut self) -> io::Result<()> {
        let mut newer = None;
        for number in 0..FILES {
            match File::open(log_file(&self.directory, &self.container, self.run, number)) {
                Ok(file) => {
                    let about = file.metadata()?;
                    if newer.as_ref().is_none_or(|newer| !is_same(newer, &about)) {
                        self.older.push_front(file);
                    }
                    newer = Some(about);
                }
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }
}

impl Open {
    fn new(file: File) -> Self {
        Self { reader: BufReader::with_capacity(BUFFER, file), at: 0, is_full: false }
    }

    /// Reads a whole record, or none.
    fn read(&mut self, record: &mut Vec<u8>) -> io::Result<bool> {
        record.clear();
        let read = self.reader.by_ref().take(MAX_RECORD).read_until(b'\n', record)?;
        // What is longer than any record was left by a power cut; it is passed on, so that what
        // follows is seen.
        let overlong = u64::try_from(read).is_ok_and(|read| read == MAX_RECORD);
        if record.last() == Some(&b'\n') || overlong {
            self.at += u64::try_from(read).unwrap_or(0);
            return Ok(true);
        }
        if read > 0 {
            // Just being written: read again from its beginning.
            self.reader.seek(SeekFrom::Start(self.at))?;
        }
        Ok(false)
    }

    /// A supervisor that can rename nothing empties its file, and takes back what a full disk took
    /// half of.
    fn was_cut(&mut self, about: &Metadata) -> io::Result<bool> {
        let was_cut = about.len() < self.at;
        if was_cut {
            self.at = about.len();
            self.reader.seek(SeekFrom::Start(self.at))?;
        }
        Ok(was_cut)
    }
}

/// Looks from newer names to older ones: a file that is renamed meanwhile is still ahead.
fn find(
    directory: &std::path::Path,
    container: &str,
    run: Run,
    own: &Metadata,
) -> io::Result<Name> {
    let runs = [run, Run::Previous];
    for run in &runs[..if run == Run::Previous { 1 } else { 2 }] {
        for number in 0..FILES {
            match log_file(directory, container, *run, number).metadata() {
                Ok(about) if is_same(&about, own) => return Ok(Name::Of(*run, number)),
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                _ => {}
            }
        }
    }
    Ok(Name::None)
}

fn is_same(one: &Metadata, other: &Metadata) -> bool {
    (one.dev(), one.ino()) == (other.dev(), other.ino())
}

/// How many whole records of a file count; it is left at its beginning.
fn count(file: &mut File, counts: impl Fn(&[u8]) -> bool) -> io::Result<u64> {
    let mut open = Open::new(file.try_clone()?);
    let (mut record, mut found) = (Vec::new(), 0);
    while open.read(&mut record)? {
        found += u64::from(counts(&record));
    }
    file.rewind()?;
    Ok(found)
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::io::Write as _;
    use std::path::Path;

    use super::*;

    fn append(directory: &Path, text: &str) {
        let path = log_file(directory, "c", Run::Present, 0);
        let mut file = File::options().append(true).create(true).open(path).unwrap();
        file.write_all(text.as_bytes()).unwrap();
    }

    fn rename(directory: &Path, (run, number): (Run, usize), (new, to): (Run, usize)) {
        let from = log_file(directory, "c", run, number);
        fs::rename(from, log_file(directory, "c", new, to)).unwrap();
    }

    fn read(files: &mut Files) -> (String, Next) {
        let (mut text, mut record) = (String::new(), Vec::new());
        loop {
            match files.next(&mut record).unwrap() {
                Next::Record => text.push_str(std::str::from_utf8(&record).unwrap()),
                Next::Gap => text.push('?'),
                end => return (text.replace('\n', " "), end),
            }
        }
    }

    #[test]
    fn no_line_is_lost_or_doubled_by_rotation() {
        use Run::Present;
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path();
        let mut files = Files::open(path.to_owned(), "c", Present).unwrap();
        assert_eq!(read(&mut files), (String::new(), Next::Nothing), "there is no file yet");
        append(path, "a\nb\nhal");
        assert_eq!(read(&mut files), ("a b ".into(), Next::Nothing));
        append(path, "f\nc\n");
        rename(path, (Present, 0), (Present, 1));
        assert_eq!(read(&mut files), ("half c ".into(), Next::Nothing), "no new file yet");
        append(path, "d\n");
        assert_eq!(read(&mut files), ("d ".into(), Next::Nothing));
        // Twice between two looks.
        append(path, "e\n");
        rename(path, (Present, 1), (Present, 2));
        rename(path, (Present, 0), (Present, 1));
        append(path, "f\n");
        rename(path, (Present, 1), (Present, 2));
        rename(path, (Present, 0), (Present, 1));
        append(path, "g\n");
        assert_eq!(read(&mut files), ("e f g ".into(), Next::Nothing));
        let mut anew = Files::open(path.to_owned(), "c", Present).unwrap();
        assert_eq!(read(&mut anew).0, "d e f g ");
    }

    #[test]
    fn what_was_removed_unread_is_told() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path();
        append(path, "a\n");
        let mut files = Files::open(path.to_owned(), "c", Run::Present).unwrap();
        assert_eq!(read(&mut files).0, "a ");
        append(path, "b\n");
        fs::remove_file(log_file(path, "c", Run::Present, 0)).unwrap();
        append(path, "c\n");
        rename(path, (Run::Present, 0), (Run::Present, 1));
        append(path, "d\n");
        assert_eq!(read(&mut files), ("b ?c d ".into(), Next::Nothing));
        File::options()
            .write(true)
            .truncate(true)
            .open(log_file(path, "c", Run::Present, 0))
            .unwrap();
        assert_eq!(read(&mut files), ("?".into(), Next::Nothing));
        append(path, "e\n");
        assert_eq!(read(&mut files), ("e ".into(), Next::Nothing));
    }

    #[test]
    fn the_end_of_a_run_is_the_end_and_so_is_that_of_the_pod() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("logs");
        fs::create_dir(&path).unwrap();
        append(&path, "a\n");
        let mut files = Files::open(path.clone(), "c", Run::Present).unwrap();
        assert_eq!(read(&mut files).0, "a ");
        append(&path, "b\n");
        rename(&path, (Run::Present, 0), (Run::Present, 1));
        append(&path, "c\n");
        rename(&path, (Run::Present, 0), (Run::Previous, 0));
        rename(&path, (Run::Present, 1), (Run::Previous, 1));
        append(&path, "other\n");
        assert_eq!(read(&mut files), ("b c ".into(), Next::Over));
        let mut previous = Files::open(path.clone(), "c", Run::Previous).unwrap();
        assert_eq!(read(&mut previous), ("a b c ".into(), Next::Over));

        let mut files = Files::open(path.clone(), "c", Run::Present).unwrap();
        assert_eq!(read(&mut files), ("other ".into(), Next::Nothing));
        fs::remove_dir_all(&path).unwrap();
        assert_eq!(read(&mut files), (String::new(), Next::Over));
    }

    #[test]
    fn only_as_many_files_are_kept_as_the_last_lines_need() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path();
        for text in ["a\nb\n", "c\nd\n", "e\nf\n"] {
            for number in (0..2).rev() {
                if log_file(path, "c", Run::Present, number).exists() {
                    rename(path, (Run::Present, number), (Run::Present, number + 1));
                }
            }
            append(path, text);
        }
        for (lines, dropped, rest) in
            [(0, 2, "e f "), (1, 1, "e f "), (2, 2, "c d e f "), (9, 0, "a b c d e f ")]
        {
            let mut files = Files::open(path.to_owned(), "c", Run::Present).unwrap();
            assert_eq!(files.keep_last(lines, |_| true).unwrap(), dropped, "{lines}");
            assert_eq!(read(&mut files).0, rest);
        }
    }
}
