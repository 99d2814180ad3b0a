//! Where sockets come from: the kernel's listener, or a simulated network's.

use std::io;
use std::net::SocketAddr;

use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};

/// A listening socket.
pub trait Listen: Send + 'static {
    /// A connected socket.
    type Io: AsyncRead + AsyncWrite + Send + Unpin + 'static;

    /// Waits for the next connection, and says where it is from. Dropping the future loses none.
    fn accept(&mut self) -> impl Future<Output = io::Result<(Self::Io, SocketAddr)>> + Send;
}

impl Listen for TcpListener {
    type Io = TcpStream;

    async fn accept(&mut self) -> io::Result<(TcpStream, SocketAddr)> {
        let (stream, from) = Self::accept(self).await?;
        // Small messages that must not wait for one another. Where it fails, the connection is
        // already gone, and the handshake will say so.
        let _gone = stream.set_nodelay(true);
        Ok((stream, from))
    }
}
