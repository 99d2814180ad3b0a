//! One connection after its handshake, and what is known of who is at its other end.

use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::sync::OwnedSemaphorePermit;
use tokio_rustls::server::TlsStream;
use tonic::transport::server::Connected;

use crate::tls::PeerIdentity;

/// What is known of a connection; in the extensions of every request that comes over it.
#[derive(Clone, Debug)]
pub struct ConnectInfo {
    /// Where it is from.
    pub peer_addr: SocketAddr,
    /// Who it is; `None` without a client certificate, or with one that names no peer of ours.
    pub identity: Option<PeerIdentity>,
}

/// A TLS connection. Its place among the open ones is free when it is dropped.
#[derive(Debug)]
pub struct Connection<Io> {
    stream: TlsStream<Io>,
    info: ConnectInfo,
    _slot: OwnedSemaphorePermit,
}

impl<Io> Connection<Io> {
    pub(super) const fn new(
        stream: TlsStream<Io>,
        info: ConnectInfo,
        slot: OwnedSemaphorePermit,
    ) -> Self {
        Self { stream, info, _slot: slot }
    }
}

impl<Io> Connected for Connection<Io> {
    type ConnectInfo = ConnectInfo;

    fn connect_info(&self) -> ConnectInfo {
        self.info.clone()
    }
}

impl<Io: AsyncRead + AsyncWrite + Unpin> AsyncRead for Connection<Io> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(context, buffer)
    }
}

impl<Io: AsyncRead + AsyncWrite + Unpin> AsyncWrite for Connection<Io> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        parts: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(context, parts)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}
