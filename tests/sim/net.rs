//! The simulated network at the two seams of the shells: dialling and listening.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use everynode_coordinator::accept::Listen;
use everynode_transport::{Dial, Io};
use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use turmoil::net::{TcpListener, TcpStream};

/// The coordinator's host.
pub(crate) const COORDINATOR: &str = "coordinator";
/// Where it listens.
pub(crate) const ADDRESS: &str = "coordinator:7443";
const LISTEN: &str = "0.0.0.0:7443";

/// Dials within the simulation, and counts how often.
#[derive(Clone, Default)]
pub(crate) struct SimDial(Arc<AtomicU64>);

impl SimDial {
    /// How often it was dialled.
    pub(crate) fn count(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

impl Dial for SimDial {
    fn dial(&self, address: &str) -> BoxFuture<'static, io::Result<Box<dyn Io>>> {
        let address = address.to_owned();
        self.0.fetch_add(1, Ordering::Relaxed);
        async move {
            let stream = TcpStream::connect(address).await?;
            Ok(Box::new(stream) as Box<dyn Io>)
        }
        .boxed()
    }
}

/// Listens within the simulation.
pub(crate) struct SimListener(TcpListener);

impl SimListener {
    /// The coordinator's port on the present host.
    pub(crate) async fn bind() -> io::Result<Self> {
        TcpListener::bind(LISTEN).await.map(Self)
    }
}

impl Listen for SimListener {
    type Io = TcpStream;

    async fn accept(&mut self) -> io::Result<(TcpStream, SocketAddr)> {
        self.0.accept().await
    }
}
