//! The accept loop: sockets in, TLS connections out.
//!
//! tonic's own loop spins at the file limit, fixes its certificate at start, and bounds neither
//! handshakes nor connections; this one does, and nothing else. It knows no HTTP and decides nothing
//! about who may do what.
//!
//! ```text
//!            ┌── slot free? ── turn free? ── accept ──┬── error ──▶ wait, 100 ms … 1 s ──┐
//!            │     (connections)  (handshakes)        │                                  │
//!            └◀───────────────────────────────────────┼──────────────────────────────────┘
//!                                                     ▼
//!                                        handshake, ≤ 10 s ──▶ connection ──▶ tonic
//! ```
//!
//! What can't be taken waits in the kernel's queue.

mod backoff;
mod connection;
mod limits;
mod listen;

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;
use tokio_stream::wrappers::ReceiverStream;

pub use connection::{ConnectInfo, Connection};
pub use limits::{Limits, raise_file_limit};
pub use listen::Listen;

use self::backoff::Backoff;
use crate::clock::Clock;
use crate::tls::{Tls, identity_of};

/// Connections whose handshake is done and that were not yet taken: tonic takes them at once, so
/// this only evens out.
const READY: usize = 64;

/// The connections of `listener`, as tonic wants them. The listener is closed when the stream is
/// dropped.
pub fn incoming<L: Listen>(
    listener: L,
    tls: Tls,
    clock: Arc<dyn Clock>,
    limits: Limits,
) -> ReceiverStream<Result<Connection<L::Io>, io::Error>> {
    let (ready, connections) = mpsc::channel(READY);
    let door = Door {
        tls,
        clock,
        slots: Arc::new(Semaphore::new(limits.connections)),
        turns: Arc::new(Semaphore::new(limits.handshakes)),
        limits,
        ready,
    };
    tokio::spawn(door.run(listener));
    ReceiverStream::new(connections)
}

struct Door<Io> {
    tls: Tls,
    clock: Arc<dyn Clock>,
    /// One for each open connection.
    slots: Arc<Semaphore>,
    /// One for each handshake under way.
    turns: Arc<Semaphore>,
    limits: Limits,
    ready: mpsc::Sender<Result<Connection<Io>, io::Error>>,
}

/// A socket on its way through the handshake.
struct Arrival<Io> {
    io: Io,
    from: SocketAddr,
    slot: OwnedSemaphorePermit,
    turn: OwnedSemaphorePermit,
}

impl<Io> Door<Io>
where
    Io: tokio::io::AsyncRead + tokio::io::AsyncWrite + Send + Unpin + 'static,
{
    async fn run<L: Listen<Io = Io>>(self, mut listener: L) {
        let ready = self.ready.clone();
        let mut handshakes = JoinSet::new();
        let mut backoff = Backoff::default();
        loop {
            let arrival = tokio::select! {
                arrival = self.arrival(&mut listener) => arrival,
                // Whoever read the stream has gone: the server shuts down.
                () = ready.closed() => return,
            };
            // Finished ones are let go here, so that the set never holds more than there are turns.
            while handshakes.try_join_next().is_some() {}
            match arrival {
                Ok(arrival) => {
                    backoff.succeeded();
                    handshakes.spawn(self.handshake(arrival));
                }
                Err(error) => backoff.failed(&error).await,
            }
        }
    }

    async fn arrival<L: Listen<Io = Io>>(&self, listener: &mut L) -> io::Result<Arrival<Io>> {
        let slot = self.slot().await?;
        let turn = Arc::clone(&self.turns).acquire_owned().await.map_err(io::Error::other)?;
        let (io, from) = listener.accept().await?;
        Ok(Arrival { io, from, slot, turn })
    }

    async fn slot(&self) -> io::Result<OwnedSemaphorePermit> {
        let slots = Arc::clone(&self.slots);
        if let Ok(slot) = Arc::clone(&slots).try_acquire_owned() {
            return Ok(slot);
        }
        tracing::warn!(
            limit = self.limits.connections,
            "no more connections are taken until one ends: raise the limit of open files"
        );
        let slot = slots.acquire_owned().await.map_err(io::Error::other)?;
        tracing::info!("connections are taken again");
        Ok(slot)
    }

    fn handshake(&self, arrival: Arrival<Io>) -> impl Future<Output = ()> + Send + 'static {
        let acceptor = TlsAcceptor::from(self.tls.current());
        let (clock, ready, time) = (Arc::clone(&self.clock), self.ready.clone(), self.limits.time);
        async move {
            // The turn is held until the connection is handed over, so that a server that takes none
            // makes arrivals wait, too.
            let Arrival { io, from, slot, turn: _turn } = arrival;
            let stream = match tokio::time::timeout(time, acceptor.accept(io)).await {
                Ok(Ok(stream)) => stream,
                // A scanner, a health check, a client that trusts another cluster: its business.
                Ok(Err(error)) => return tracing::debug!(%from, %error, "handshake failed"),
                Err(_) => return tracing::debug!(%from, ?time, "handshake took too long"),
            };
            let certificate = stream.get_ref().1.peer_certificates().and_then(<[_]>::first);
            let identity = certificate.and_then(|der| identity_of(der, clock.now().wall));
            let info = ConnectInfo { peer_addr: from, identity };
            // Fails only when the server shuts down; the connection ends with it.
            let _gone = ready.send(Ok(Connection::new(stream, info, slot))).await;
        }
    }
}

#[cfg(test)]
mod tests;
