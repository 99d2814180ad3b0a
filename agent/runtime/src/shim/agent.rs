//! The supervisor's side of its agent's connection: requests in, messages out, never waiting.

use std::collections::VecDeque;
use std::io;
use std::os::fd::OwnedFd;

use rustix::event::{PollFd, PollFlags};
use rustix::net::{SendFlags, SocketFlags};

use super::protocol::{self, MAX_LINE, Message, Request};
use crate::descriptors;

/// The most that waits for an agent that does not read when more is said: a few accounts. Beyond it
/// the connection is closed: the agent will come again and ask for the account, which holds all
/// that was missed.
const MAX_WAITING: usize = 256 * 1024;

/// The most descriptors that wait for their request to be whole: three for each question that an
/// agent has under way (16).
const MAX_FDS: usize = 48;

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

    /// Reads what has come; the requests that are whole. One that is not understood is `None`.
    pub(super) fn receive(&mut self) -> Vec<Option<Request>> {
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

    /// Forgets the descriptors that came with a request that is not understood.
    pub(super) fn drop_fds(&mut self) {
        self.fds.clear();
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

    fn take_lines(&mut self) -> Vec<Option<Request>> {
        let Some(end) = self.received.iter().rposition(|byte| *byte == b'\n') else {
            return Vec::new();
        };
        let rest = self.received.split_off(end + 1);
        let whole = std::mem::replace(&mut self.received, rest);
        whole[..end]
            .split(|byte| *byte == b'\n')
            .map(|line| serde_json::from_slice(line).ok())
            .collect()
    }
}
