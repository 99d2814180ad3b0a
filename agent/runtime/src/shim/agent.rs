//! The supervisor's side of its agent's connection: requests in, messages out, never waiting.

use std::collections::VecDeque;
use std::io;
use std::os::fd::OwnedFd;

use rustix::event::{PollFd, PollFlags};
use rustix::net::{SendFlags, SocketFlags};

use super::brought::brought_by;
use super::protocol::{self, MAX_LINE, Message, Request};
use crate::descriptors;

/// The most that waits for an agent that does not read when more is said: a few accounts. Beyond it
/// the connection is closed: the agent will come again and ask for the account, which holds all
/// that was missed.
const MAX_WAITING: usize = 256 * 1024;

/// The most descriptors that wait for their request to be whole: three for each question that an
/// agent has under way (16).
const MAX_FDS: usize = 48;

/// A request that is not understood, and how many descriptors it brings.
pub(super) struct Unknown {
    fds: usize,
}

/// One agent's connection.
pub(super) struct Agent {
    socket: OwnedFd,
    received: Vec<u8>,
    /// What came with requests that were not heard yet, in order.
    fds: VecDeque<OwnedFd>,
    waiting: Vec<u8>,
    closed: bool,
}

impl Agent {
    /// Accepts a connection; only of our own user.
    pub(super) fn accept(listener: &OwnedFd) -> io::Result<Option<Self>> {
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let socket = match rustix::net::accept_with(listener, flags) {
            Err(rustix::io::Errno::AGAIN | rustix::io::Errno::INTR) => return Ok(None),
            accepted => accepted?,
        };
        let peer = rustix::net::sockopt::socket_peercred(&socket)?;
        let ours = peer.uid == rustix::process::geteuid();
        Ok(ours.then(|| Self {
            socket,
            received: Vec::new(),
            fds: VecDeque::new(),
            waiting: Vec::new(),
            closed: false,
        }))
    }

    pub(super) fn poll_fd(&self) -> PollFd<'_> {
        let flags = match self.waiting.is_empty() {
            true => PollFlags::IN,
            false => PollFlags::IN | PollFlags::OUT,
        };
        PollFd::new(&self.socket, flags)
    }

    pub(super) fn is_closed(&self) -> bool {
        self.closed
    }

    /// Reads what has come; the requests that are whole.
    pub(super) fn receive(&mut self) -> Vec<Result<Request, Unknown>> {
        let mut buffer = [0; 4096];
        loop {
            match descriptors::receive(&self.socket, &mut buffer) {
                Ok((0, _)) => {
                    self.closed = true;
                    break;
                }
                Ok((length, fds)) => {
                    self.received.extend_from_slice(&buffer[..length]);
                    self.fds.extend(fds);
                }
                Err(rustix::io::Errno::INTR) => {}
                Err(rustix::io::Errno::AGAIN) => break,
                Err(_) => {
                    self.closed = true;
                    break;
                }
            }
            if self.received.len() > MAX_LINE {
                break;
            }
        }
        let requests = self.take_lines();
        // What is left is one unfinished line.
        self.closed |= self.received.len() > MAX_LINE || self.fds.len() > MAX_FDS;
        requests
    }

    /// The next of the descriptors that came with requests.
    pub(super) fn take_fds<const N: usize>(&mut self) -> Option<[OwnedFd; N]> {
        let taken: Vec<OwnedFd> = self.fds.drain(..N.min(self.fds.len())).collect();
        taken.try_into().ok()
    }

    /// Forgets the descriptors that came with a request that is not understood, and no others.
    pub(super) fn drop_fds(&mut self, Unknown { fds }: Unknown) {
        self.fds.drain(..fds.min(self.fds.len()));
    }

    /// Sends a message, or lets it wait for the agent to read.
    pub(super) fn send(&mut self, message: &Message) {
        self.closed |= self.waiting.len() > MAX_WAITING;
        self.waiting.extend_from_slice(&protocol::line(message));
        self.flush();
    }

    pub(super) fn flush(&mut self) {
        while !self.waiting.is_empty() {
            match rustix::net::send(&self.socket, &self.waiting, SendFlags::NOSIGNAL) {
                Ok(sent) => drop(self.waiting.drain(..sent)),
                Err(rustix::io::Errno::INTR) => {}
                Err(rustix::io::Errno::AGAIN) => return,
                Err(_) => {
                    self.closed = true;
                    return;
                }
            }
        }
        // A burst's buffer is not kept for a life of silence.
        self.waiting = Vec::new();
    }

    fn take_lines(&mut self) -> Vec<Result<Request, Unknown>> {
        let Some(end) = self.received.iter().rposition(|byte| *byte == b'\n') else {
            return Vec::new();
        };
        let rest = self.received.split_off(end + 1);
        let whole = std::mem::replace(&mut self.received, rest);
        whole[..end]
            .split(|byte| *byte == b'\n')
            .map(|line| serde_json::from_slice(line).map_err(|_| Unknown { fds: brought_by(line) }))
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use std::os::fd::AsFd as _;
    use std::os::unix::net::{UnixListener, UnixStream};

    use super::super::brought;
    use super::*;

    /// Distinguishable descriptors, and by what they are.
    fn files<const N: usize>() -> ([OwnedFd; N], [u64; N]) {
        let made: [std::fs::File; N] = std::array::from_fn(|_| tempfile::tempfile().unwrap());
        let inodes = std::array::from_fn(|n| rustix::fs::fstat(&made[n]).unwrap().st_ino);
        (made.map(OwnedFd::from), inodes)
    }

    fn inodes<const N: usize>(fds: [OwnedFd; N]) -> [u64; N] {
        fds.map(|fd| rustix::fs::fstat(fd).unwrap().st_ino)
    }

    #[test]
    fn an_unknown_request_takes_its_own_descriptors_with_it_and_no_others() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("socket");
        let listener = OwnedFd::from(UnixListener::bind(&path).unwrap());
        let stream = UnixStream::connect(&path).unwrap();
        let mut agent = Agent::accept(&listener).unwrap().unwrap();
        let send = |line: &[u8], fds: &[OwnedFd]| {
            let fds: Vec<_> = fds.iter().map(OwnedFd::as_fd).collect();
            assert_eq!(descriptors::send(&stream, line, &fds).unwrap(), line.len());
        };
        let (before, after) = (files::<1>(), files::<1>());
        let socket = |v6| brought::line(&Request::Socket { v6 }, 1);
        send(&socket(true), &before.0);
        send(b"{\"of_next_year\":{\"fds\":2}}\n", &files::<2>().0);
        send(b"{\"of_the_year_after\":{}}\n", &[]);
        send(&socket(false), &after.0);
        let mut took = Vec::new();
        for request in agent.receive() {
            match request {
                Ok(Request::Socket { .. }) => took.push(inodes(agent.take_fds::<1>().unwrap())),
                Ok(other) => panic!("{other:?}"),
                Err(unknown) => agent.drop_fds(unknown),
            }
        }
        assert_eq!(took, [before.1, after.1]);
        assert!(agent.fds.is_empty() && !agent.is_closed());
    }
}
