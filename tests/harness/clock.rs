//! A date that is wrong, and can be set while a program runs: `libfaketime` in its environment, told
//! by a file. Only the date: steady clocks go on as they are, as they do when a date is set.

use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::failure;
use crate::failure::{Context as _, Outcome};

/// Where Debian keeps libraries, one directory for each kind of machine.
const LIBRARIES: &str = "/usr/lib";
/// The one for programs with threads.
const LIBRARY: &str = "faketime/libfaketimeMT.so.1";

/// See the module.
#[derive(Debug)]
pub struct WrongClock {
    file: PathBuf,
    library: OsString,
}

impl WrongClock {
    /// A clock that is told by this file.
    ///
    /// # Errors
    /// When the library is not installed.
    pub fn told_by(file: PathBuf) -> Outcome<Self> {
        let kinds = fs::read_dir(LIBRARIES).context(LIBRARIES)?;
        let mut libraries = kinds.flatten().map(|kind| kind.path().join(LIBRARY));
        let library = libraries.find(|library| library.is_file());
        let library = library.ok_or_else(|| failure!("{LIBRARY} is not there: run tests/run"))?;
        Ok(Self { file, library: library.into_os_string() })
    }

    /// Sets it: `+0` is right, `-10m` is so far behind, `@1970-01-01 00:00:00` goes on from there.
    ///
    /// # Errors
    /// When the file can't be written.
    pub fn set(&self, to: &str) -> Outcome {
        // Whoever reads it meanwhile finds one or the other.
        let next = self.file.with_extension("next");
        fs::write(&next, format!("{to}\n")).context(next.display())?;
        fs::rename(&next, &self.file).context(self.file.display())
    }

    /// What this command runs has this clock.
    pub fn give_to(&self, command: &mut Command) {
        let file: &Path = &self.file;
        command.env("LD_PRELOAD", &self.library).env("FAKETIME_TIMESTAMP_FILE", file);
        command.env("FAKETIME_NO_CACHE", "1").env("FAKETIME_DONT_FAKE_MONOTONIC", "1");
    }
}
