//! What connects somebody with a program that is run in a container: pipes, or a terminal.
//!
//! ```text
//!     [`Ends`]                        [`ExecRequest`]
//!     stdin  ────────── pipe ──────────▶ 0
//!     stdout ◀───────── pipe ─────────── 1
//!     stderr ◀───────── pipe ─────────── 2
//!   or
//!     stdin  ─────▶ ┌──────────┐ ◀─────▶ 0, 1, 2
//!     stdout ◀───── │ terminal │
//!     terminal ───▶ └──────────┘  size
//! ```
//!
//! To drop all ends is to hang up: a pipe then ends or breaks (SIGPIPE), and the session of a
//! terminal gets SIGHUP from the kernel. So it is also when this process is killed.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd as _, OwnedFd};
use std::sync::Arc;

use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;
use rustix::pipe::PipeFlags;
use rustix::pty::OpenptFlags;
use rustix::termios::Winsize;
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::net::unix::pipe;

use crate::{ExecRequest, sys};

/// The most that is read when a program has ended: no more than a full pipe of the largest usual
/// size, should somebody outside hold its other end and go on writing.
pub const LAST_BYTES: usize = 1024 * 1024;

/// Our ends.
#[derive(Debug)]
pub struct Ends {
    /// To its input; dropped, that ends, but for a terminal's.
    pub stdin: Option<Writer>,
    /// From its output, and a terminal's only one.
    pub stdout: Reader,
    /// From its other output.
    pub stderr: Option<Reader>,
    /// What has a size.
    pub terminal: Option<Terminal>,
}

/// Where bytes come from.
#[derive(Debug)]
pub struct Reader(Side<pipe::Receiver>);

/// Where bytes go.
#[derive(Debug)]
pub struct Writer(Side<pipe::Sender>);

/// The terminal of a program.
#[derive(Clone, Debug)]
pub struct Terminal(Arc<AsyncFd<OwnedFd>>);

/// How large a terminal is, in characters.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct WindowSize {
    /// Its width.
    pub columns: u16,
    /// Its height.
    pub rows: u16,
}

#[derive(Debug)]
enum Side<P> {
    Pipe(P),
    Terminal(Terminal),
}

/// Three pipes; without `stdin`, nothing is its input.
///
/// # Errors
/// When descriptors are short.
pub fn by_pipes(argv: Vec<String>, stdin: bool) -> io::Result<(ExecRequest, Ends)> {
    let (input, writer) = match stdin {
        true => {
            let (input, writer) = pipe_pair()?;
            (input, Some(Writer(Side::Pipe(pipe::Sender::from_owned_fd(writer)?))))
        }
        false => (nothing()?, None),
    };
    let (stdout, from_stdout) = output()?;
    let (stderr, from_stderr) = output()?;
    let request =
        ExecRequest { argv, stdin: input, stdout, stderr, terminal: false, timeout: None };
    let ends =
        Ends { stdin: writer, stdout: from_stdout, stderr: Some(from_stderr), terminal: None };
    Ok((request, ends))
}

/// A new terminal.
///
/// # Errors
/// When descriptors or terminals are short.
pub fn by_terminal(argv: Vec<String>, size: WindowSize) -> io::Result<(ExecRequest, Ends)> {
    let ours = rustix::pty::openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC)?;
    rustix::pty::grantpt(&ours)?;
    rustix::pty::unlockpt(&ours)?;
    let name = rustix::pty::ptsname(&ours, Vec::new())?;
    let flags = OFlags::RDWR | OFlags::NOCTTY | OFlags::CLOEXEC;
    let stdin = rustix::fs::open(&name, flags, Mode::empty())?;
    let (stdout, stderr) = (stdin.try_clone()?, stdin.try_clone()?);
    // Only our side must not wait: the other one is a program's, which does not expect that.
    rustix::fs::fcntl_setfl(&ours, rustix::fs::fcntl_getfl(&ours)? | OFlags::NONBLOCK)?;
    let terminal = Terminal(Arc::new(sys::both_ways(ours)?));
    terminal.resize(size)?;
    let request = ExecRequest { argv, stdin, stdout, stderr, terminal: true, timeout: None };
    let ends = Ends {
        stdin: Some(Writer(Side::Terminal(terminal.clone()))),
        stdout: Reader(Side::Terminal(terminal.clone())),
        stderr: None,
        terminal: Some(terminal),
    };
    Ok((request, ends))
}

impl Reader {
    /// Waits for some bytes; 0 at the end, when nobody has the other side open any more.
    ///
    /// # Errors
    /// When they can't be read.
    pub async fn read(&self, buffer: &mut [u8]) -> io::Result<usize> {
        match &self.0 {
            Side::Terminal(Terminal(fd)) => {
                let read = |fd: &OwnedFd| read_terminal(fd, buffer);
                fd.async_io(Interest::READABLE, read).await
            }
            Side::Pipe(pipe) => loop {
                pipe.readable().await?;
                match pipe.try_read(buffer) {
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                    read => return read,
                }
            },
        }
    }

    /// Takes what is there.
    ///
    /// # Errors
    /// `WouldBlock` when nothing is; and when it can't be read.
    pub fn try_read(&self, buffer: &mut [u8]) -> io::Result<usize> {
        match &self.0 {
            // Past what tokio knows: of a descriptor that was never seen to be readable, too.
            Side::Terminal(Terminal(fd)) => read_terminal(fd.get_ref(), buffer),
            Side::Pipe(pipe) => Ok(rustix::io::read(pipe.as_fd(), buffer)?),
        }
    }
}

impl Writer {
    /// Writes all, for as long as that takes.
    ///
    /// # Errors
    /// When nobody reads any more.
    pub async fn write_all(&mut self, mut bytes: &[u8]) -> io::Result<()> {
        while !bytes.is_empty() {
            let written = match &self.0 {
                Side::Terminal(Terminal(fd)) => {
                    let write = |fd: &OwnedFd| Ok(rustix::io::write(fd, bytes)?);
                    fd.async_io(Interest::WRITABLE, write).await?
                }
                Side::Pipe(pipe) => {
                    pipe.writable().await?;
                    match pipe.try_write(bytes) {
                        Err(error) if error.kind() == io::ErrorKind::WouldBlock => 0,
                        written => written?,
                    }
                }
            };
            bytes = &bytes[written..];
        }
        Ok(())
    }
}

impl Terminal {
    /// Gives it another size; what runs in front of it gets SIGWINCH from the kernel.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn resize(&self, size: WindowSize) -> io::Result<()> {
        let WindowSize { columns: ws_col, rows: ws_row } = size;
        let size = Winsize { ws_row, ws_col, ws_xpixel: 0, ws_ypixel: 0 };
        Ok(rustix::termios::tcsetwinsize(self.0.get_ref(), size)?)
    }
}

/// The end of a terminal that nobody has open is told as an error.
fn read_terminal(fd: &OwnedFd, buffer: &mut [u8]) -> io::Result<usize> {
    match rustix::io::read(fd, buffer) {
        Err(Errno::IO) => Ok(0),
        read => Ok(read?),
    }
}

/// An input that is at its end.
pub(crate) fn nothing() -> io::Result<OwnedFd> {
    Ok(File::open("/dev/null")?.into())
}

/// A pipe for an output: the program's end, and ours.
pub(crate) fn output() -> io::Result<(OwnedFd, Reader)> {
    let (read, write) = pipe_pair()?;
    Ok((write, Reader(Side::Pipe(pipe::Receiver::from_owned_fd(read)?))))
}

/// For reading, and for writing. Both wait until one is tokio's.
fn pipe_pair() -> io::Result<(OwnedFd, OwnedFd)> {
    Ok(rustix::pipe::pipe_with(PipeFlags::CLOEXEC)?)
}
