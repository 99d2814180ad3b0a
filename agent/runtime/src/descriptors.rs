//! Descriptors that go with bytes through a unix socket: `SCM_RIGHTS` of unix(7).

use std::io::{IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::io::Errno;
use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags,
};

/// The most that go with one message: a program's input and outputs.
const MOST: usize = 3;

/// Sends these descriptors with the first of the bytes, without waiting; how many bytes were sent.
///
/// # Errors
/// `AGAIN` where there is no room; `INVAL` for more than three descriptors.
pub(crate) fn send(
    socket: impl AsFd,
    bytes: &[u8],
    fds: &[BorrowedFd<'_>],
) -> rustix::io::Result<usize> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MOST))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    if !control.push(SendAncillaryMessage::ScmRights(fds)) {
        return Err(Errno::INVAL);
    }
    let flags = SendFlags::NOSIGNAL | SendFlags::DONTWAIT;
    rustix::net::sendmsg(socket, &[IoSlice::new(bytes)], &mut control, flags)
}

/// Takes what has come, without waiting: how many bytes, and the descriptors that came with them.
///
/// # Errors
/// `AGAIN` where nothing has.
pub(crate) fn receive(
    socket: impl AsFd,
    buffer: &mut [u8],
) -> rustix::io::Result<(usize, Vec<OwnedFd>)> {
    // As many as Linux lets one message bring would be 253; ours brings few.
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(4 * MOST))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let flags = RecvFlags::CMSG_CLOEXEC | RecvFlags::DONTWAIT;
    let parts = &mut [IoSliceMut::new(buffer)];
    let received = rustix::net::recvmsg(socket, parts, &mut control, flags)?;
    let mut fds = Vec::new();
    for message in control.drain() {
        if let RecvAncillaryMessage::ScmRights(rights) = message {
            fds.extend(rights);
        }
    }
    Ok((received.bytes, fds))
}
