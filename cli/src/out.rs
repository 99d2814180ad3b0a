//! Where words go: results to standard output, everything else to standard error.
//!
//! Colours and cursor movements reach terminals only (`NO_COLOR` and `CLICOLOR` are honoured by
//! the streams themselves). A reader that has gone is not an error of ours ([`Error::Closed`]).

use std::fmt::Display;
use std::io::{self, IsTerminal as _, Write};

use crate::error::Error;
use crate::table::harmless;

/// The two streams of a command.
pub(crate) struct Out {
    out: Box<dyn Write>,
    err: Box<dyn Write>,
    out_is_terminal: bool,
    err_is_terminal: bool,
    /// Whether a line of progress stands on the terminal and must be wiped first.
    progress: bool,
}

impl Out {
    /// The process's own streams.
    pub(crate) fn standard() -> Self {
        Self {
            out: Box::new(anstream::stdout()),
            err: Box::new(anstream::stderr()),
            out_is_terminal: io::stdout().is_terminal(),
            err_is_terminal: io::stderr().is_terminal(),
            progress: false,
        }
    }

    /// Nobody listens.
    pub(crate) fn silent() -> Self {
        Self {
            out: Box::new(io::sink()),
            err: Box::new(io::sink()),
            out_is_terminal: false,
            err_is_terminal: false,
            progress: false,
        }
    }

    /// Whether results go to a terminal.
    pub(crate) fn is_terminal(&self) -> bool {
        self.out_is_terminal
    }

    /// A result, with a newline.
    pub(crate) fn line(&mut self, text: impl Display) -> Result<(), Error> {
        self.text(&format!("{text}\n"))
    }

    /// A result as it is, handed on at once.
    pub(crate) fn text(&mut self, text: &str) -> Result<(), Error> {
        self.wipe();
        self.out.write_all(text.as_bytes())?;
        Ok(self.out.flush()?)
    }

    /// Something to know that is not the result. Nobody may be listening; that stops nothing.
    pub(crate) fn note(&mut self, text: impl Display) {
        self.wipe();
        let _ = writeln!(self.err, "{}", harmless(&text.to_string()));
    }

    /// That nothing is there of what was asked for; in that namespace, unless it is empty. kubectl's words.
    pub(crate) fn note_nothing(&mut self, namespace: &str) {
        match namespace {
            "" => self.note("No resources found"),
            namespace => self.note(format!("No resources found in {namespace} namespace.")),
        }
    }

    /// What is being waited for; seen on terminals only, and only until the next word.
    pub(crate) fn progress(&mut self, text: impl Display) {
        if self.err_is_terminal {
            self.wipe();
            let _ = write!(self.err, "{}", crate::table::one_line(&text.to_string()));
            let _ = self.err.flush();
            self.progress = true;
        }
    }

    fn wipe(&mut self) {
        if std::mem::take(&mut self.progress) {
            let _ = write!(self.err, "\r\x1b[K");
            let _ = self.err.flush();
        }
    }
}

impl Drop for Out {
    fn drop(&mut self) {
        self.wipe();
    }
}

#[cfg(test)]
pub(crate) mod testing {
    use std::sync::{Arc, Mutex};

    use super::*;

    /// What was written, for tests to look at.
    #[derive(Clone, Default)]
    pub(crate) struct Written(Arc<Mutex<Vec<u8>>>);

    impl Written {
        pub(crate) fn text(&self) -> String {
            String::from_utf8(self.0.lock().unwrap().clone()).unwrap()
        }
    }

    impl Write for Written {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().extend(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    /// Streams that are no terminals, and what is written to them (results, notes).
    pub(crate) fn captured() -> (Out, Written, Written) {
        let (out, err) = (Written::default(), Written::default());
        let streams = Out {
            out: Box::new(out.clone()),
            err: Box::new(err.clone()),
            out_is_terminal: false,
            err_is_terminal: false,
            progress: false,
        };
        (streams, out, err)
    }

    #[test]
    fn progress_is_for_terminals() {
        let (mut out, _, err) = captured();
        out.progress("waiting");
        out.note("done");
        assert_eq!(err.text(), "done\n");
        out.err_is_terminal = true;
        out.progress("waiting");
        out.note("\u{1b}[31mdone");
        assert_eq!(err.text(), "done\nwaiting\r\x1b[K\u{fffd}[31mdone\n");
    }

    #[test]
    fn a_reader_that_has_gone_is_told_apart() {
        struct Gone;
        impl Write for Gone {
            fn write(&mut self, _: &[u8]) -> io::Result<usize> {
                Err(io::ErrorKind::BrokenPipe.into())
            }
            fn flush(&mut self) -> io::Result<()> {
                Ok(())
            }
        }
        let (mut out, _, _) = captured();
        out.out = Box::new(Gone);
        assert!(matches!(out.line("x"), Err(Error::Closed)));
    }
}
