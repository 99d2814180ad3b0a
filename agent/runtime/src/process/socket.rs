//! Sockets in the network that a pod has of its own: made by its supervisor, which is in there, and
//! sent here.

use std::io;
use std::net::TcpStream;
use std::os::fd::OwnedFd;
use std::sync::Arc;

use everynode_agent_core::PodRef;
use everynode_model::Reason;
use rustix::net::{AddressFamily, SocketFlags, SocketType};
use tokio::net::TcpSocket;

use super::Inner;
use super::link::NoAnswer;
use crate::descriptors;
use crate::error::ExecError;
use crate::shim::protocol::{Message, Request};

pub(super) async fn socket(
    inner: &Arc<Inner>,
    pod: &PodRef,
    v6: bool,
) -> Result<Option<TcpSocket>, ExecError> {
    let link = inner.links().get(&pod.uid).map(|link| (link.has_own_network(), link.asker()));
    let (own, asker) = link.ok_or_else(|| ExecError::NotSupervised(pod.clone()))?;
    if !own {
        return Ok(None);
    }
    let (family, kind) = (AddressFamily::UNIX, SocketType::STREAM);
    let (here, there) = rustix::net::socketpair(family, kind, SocketFlags::CLOEXEC, None)
        .map_err(io::Error::from)?;
    match asker.ask_with(Request::Socket { v6 }, there).await {
        Ok(Message::Socket {}) => {
            let socket = TcpStream::from(receive(&here)?);
            Ok(Some(TcpSocket::from_std_stream(socket)))
        }
        Ok(Message::Refused { code, message }) => {
            Err(ExecError::Refused(Reason::new(code, message)))
        }
        Err(NoAnswer::Silent) => Err(ExecError::Silent(pod.clone())),
        Ok(_) | Err(NoAnswer::Lost) => Err(ExecError::NotSupervised(pod.clone())),
    }
}

/// What was sent before the answer, so it is there.
fn receive(from: &OwnedFd) -> io::Result<OwnedFd> {
    let (_, fds) = descriptors::receive(from, &mut [0])?;
    fds.into_iter().next().ok_or_else(|| io::Error::other("the pod's supervisor sent no socket"))
}
