//! Bytes to an address. The seam at which a simulation puts its own network.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpSocket, TcpStream};

/// How long one of several addresses of a name is tried: TCP's first two retransmissions fit in.
const PER_ADDRESS: Duration = Duration::from_secs(4);

/// A connected pair of byte streams.
pub trait Io: AsyncRead + AsyncWrite + Unpin + Send {}

impl<T: AsyncRead + AsyncWrite + Unpin + Send> Io for T {}

/// Connects to an address, `host:port`.
pub trait Dial: Send + Sync + 'static {
    /// Connects once. The caller bounds the time and tries again.
    fn dial(&self, address: &str) -> BoxFuture<'static, io::Result<Box<dyn Io>>>;
}

/// A name that no address was found for: what [`TcpDial`]'s error holds then.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct ResolveFailed(#[source] pub io::Error);

/// TCP. Resolves the name at every dial, and tries all its addresses, in the resolver's order.
#[derive(Clone, Copy, Debug, Default)]
pub struct TcpDial;

impl Dial for TcpDial {
    fn dial(&self, address: &str) -> BoxFuture<'static, io::Result<Box<dyn Io>>> {
        let address = address.to_owned();
        async move {
            let unresolved = |error| io::Error::new(io::ErrorKind::NotFound, ResolveFailed(error));
            let found: Vec<SocketAddr> =
                tokio::net::lookup_host(&address).await.map_err(unresolved)?.collect();
            let mut last = None;
            for address in found {
                match connect(address).await {
                    Ok(stream) => return Ok(Box::new(stream) as Box<dyn Io>),
                    Err(error) => last = Some(error),
                }
            }
            Err(last.unwrap_or_else(|| unresolved(io::Error::other("the name has no address"))))
        }
        .boxed()
    }
}

async fn connect(address: SocketAddr) -> io::Result<TcpStream> {
    let socket = if address.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
    // HTTP/2 has its own; this one is for proxies and load balancers that look at TCP only.
    socket.set_keepalive(true)?;
    socket.set_nodelay(true)?;
    tokio::time::timeout(PER_ADDRESS, socket.connect(address)).await?
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    #[tokio::test]
    async fn connects_and_names_what_failed() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let mut near = TcpDial.dial(&address).await.unwrap();
        let (mut far, _) = listener.accept().await.unwrap();
        far.write_all(b"x").await.unwrap();
        assert_eq!(near.read_u8().await.unwrap(), b'x');

        drop(listener);
        let refused = TcpDial.dial(&address).await.err().unwrap();
        assert_eq!(refused.kind(), io::ErrorKind::ConnectionRefused);
        let unknown = TcpDial.dial("no-such-host.invalid:1").await.err().unwrap();
        assert!(unknown.get_ref().is_some_and(|inner| inner.is::<ResolveFailed>()));
    }
}
