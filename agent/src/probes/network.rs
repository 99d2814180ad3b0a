//! From where a pod is asked: from the machine's network, or from one of the pod's own, in which
//! everything is asked that its probes and hooks ask.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};

use everynode_agent_core::PodRef;
use everynode_runtime::{ExecError, Runtime};
use tokio::net::{TcpSocket, TcpStream};

use super::AGAIN;

/// The network in which a pod's ports are.
#[derive(Clone)]
pub(super) enum Network {
    /// The machine's, which this process is in.
    Machine,
    /// The pod's own.
    Pod(Inside),
}

/// What makes connections in a pod's network.
#[derive(Clone)]
pub(super) struct Inside {
    runtime: Arc<dyn Runtime>,
    pod: PodRef,
    /// The socket of IPv4 by which it was learnt that there is such a network; most ask for no other.
    first: Arc<Mutex<Option<TcpSocket>>>,
}

impl Network {
    /// The network of a pod; `None` where the pod has ended. Waits for a supervisor that is silent:
    /// nothing is known of its containers then.
    pub(super) async fn of(runtime: &Arc<dyn Runtime>, pod: &PodRef) -> Option<Self> {
        loop {
            match runtime.socket(pod, false).await {
                Ok(None) => return Some(Self::Machine),
                Ok(first) => {
                    let (runtime, pod) = (Arc::clone(runtime), pod.clone());
                    let first = Arc::new(Mutex::new(first));
                    return Some(Self::Pod(Inside { runtime, pod, first }));
                }
                Err(ExecError::NotSupervised(_)) => return None,
                Err(_) => tokio::time::sleep(AGAIN).await,
            }
        }
    }

    /// Where the pod is, in that network, unless somebody says so; the machine is at `machine`,
    /// if it has an address.
    pub(super) fn address(&self, machine: Option<String>) -> String {
        let address = match self {
            Self::Machine => machine,
            Self::Pod(_) => None,
        };
        address.unwrap_or_else(|| Ipv4Addr::LOCALHOST.to_string())
    }

    pub(super) async fn connect(&self, to: SocketAddr) -> io::Result<TcpStream> {
        match self {
            Self::Machine => TcpStream::connect(to).await,
            Self::Pod(inside) => inside.socket(to.is_ipv6()).await?.connect(to).await,
        }
    }
}

impl Inside {
    async fn socket(&self, v6: bool) -> io::Result<TcpSocket> {
        let first = match v6 {
            true => None,
            false => self.first.lock().unwrap_or_else(PoisonError::into_inner).take(),
        };
        if let Some(first) = first {
            return Ok(first);
        }
        let socket = self.runtime.socket(&self.pod, v6).await.map_err(io::Error::other)?;
        // What had a network of its own has it for life.
        socket.ok_or_else(|| io::ErrorKind::NetworkUnreachable.into())
    }
}
