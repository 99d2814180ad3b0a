//! Sockets in the pod's network, for its agent to probe it by: no namespace has to be entered for
//! that, and no thread is.

use std::io;
use std::os::fd::{AsFd as _, OwnedFd};

use rustix::net::{AddressFamily, SocketFlags, SocketType};

use crate::descriptors;

/// Makes a TCP socket that does not wait, and sends it to a unix socket.
pub(super) fn hand_out(v6: bool, to: &OwnedFd) -> io::Result<()> {
    let family = if v6 { AddressFamily::INET6 } else { AddressFamily::INET };
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let socket = rustix::net::socket_with(family, SocketType::STREAM, flags, None)?;
    descriptors::send(to, b"s", &[socket.as_fd()])?;
    Ok(())
}
