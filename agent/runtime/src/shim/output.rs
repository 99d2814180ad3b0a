//! One output of a running container: its pipe, and the way of what comes out of it to the log.

use std::io;
use std::os::fd::OwnedFd;

use rustix::fs::OFlags;
use rustix::pipe::PipeFlags;

use super::clock;
use super::log::{Lines, Log, Stream};

/// The most that is read of one output before the others have their turn.
const READ_AT_ONCE: usize = 64 * 1024;

/// Most reads when a container has ended: no more than a full pipe of the largest usual size
/// (1 MiB), should somebody outside hold its other end and go on writing.
const LAST_READS: usize = 16;

/// The end of a pipe that a container writes.
pub(super) struct Output {
    stream: Stream,
    pipe: OwnedFd,
    lines: Lines,
}

enum Read {
    Some(usize),
    Nothing,
    End,
}

impl Output {
    /// A new pipe, and its end for the container.
    pub(super) fn new(stream: Stream) -> io::Result<(Self, OwnedFd)> {
        let (pipe, write) = rustix::pipe::pipe_with(PipeFlags::CLOEXEC)?;
        rustix::fs::fcntl_setfl(&pipe, OFlags::NONBLOCK)?;
        Ok((Self { stream, pipe, lines: Lines::default() }, write))
    }

    /// What to wait for.
    pub(super) fn pipe(&self) -> &OwnedFd {
        &self.pipe
    }

    /// Reads what there is, up to a bound; whether there may be more one day.
    pub(super) fn read(&mut self, buffer: &mut [u8], log: &mut Log) -> bool {
        let mut read = 0;
        while read < READ_AT_ONCE {
            match self.read_once(buffer, log) {
                Read::Some(length) => read += length,
                Read::Nothing => return true,
                Read::End => return false,
            }
        }
        true
    }

    /// Reads what is left, as nobody writes any more.
    pub(super) fn finish(mut self, log: &mut Log) {
        let mut buffer = vec![0; READ_AT_ONCE];
        for _ in 0..LAST_READS {
            match self.read_once(&mut buffer, log) {
                Read::Some(_) => {}
                Read::Nothing | Read::End => break,
            }
        }
        log.finish(self.stream, &mut self.lines, clock::wall());
    }

    fn read_once(&mut self, buffer: &mut [u8], log: &mut Log) -> Read {
        match rustix::io::read(&self.pipe, &mut *buffer) {
            Ok(0) => {
                log.finish(self.stream, &mut self.lines, clock::wall());
                Read::End
            }
            Ok(length) => {
                log.write(self.stream, &mut self.lines, &buffer[..length], clock::wall());
                Read::Some(length)
            }
            Err(rustix::io::Errno::INTR) => Read::Some(0),
            Err(rustix::io::Errno::AGAIN) => Read::Nothing,
            Err(_) => Read::End,
        }
    }
}
