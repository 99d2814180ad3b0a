//! From where a pod is asked: from the machine's network, or from one of the pod's own, in which
//! everything is asked that its probes and hooks ask.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use everynode_agent_core::PodRef;
use everynode_runtime::{ExecError, Runtime};
use tokio::net::TcpStream;

/// Between tries at what could not be had for no fault of the pod's.
const AGAIN: Duration = Duration::from_secs(1);

/// The network in which a pod's ports are.
#[derive(Clone)]
pub(super) enum Network {
    /// The machine's, which this process is in.
    Machine,
    /// The pod's own.
    Pod(Arc<dyn Runtime>, PodRef),
}

impl Network {
    /// The network of a pod; `None` where the pod has ended. Waits for a supervisor that is silent:
    /// nothing is known of its containers then.
    pub(super) async fn of(runtime: &Arc<dyn Runtime>, pod: &PodRef) -> Option<Self> {
        loop {
            match runtime.socket(pod, false).await {
                Ok(None) => return Some(Self::Machine),
                Ok(Some(_)) => return Some(Self::Pod(Arc::clone(runtime), pod.clone())),
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
            Self::Pod(..) => None,
        };
        address.unwrap_or_else(|| Ipv4Addr::LOCALHOST.to_string())
    }

    pub(super) async fn connect(&self, to: SocketAddr) -> io::Result<TcpStream> {
        match self {
            Self::Machine => TcpStream::connect(to).await,
            Self::Pod(runtime, pod) => {
                let socket = runtime.socket(pod, to.is_ipv6()).await.map_err(io::Error::other)?;
                // What had a network of its own has it for life.
                let socket = socket.ok_or(io::ErrorKind::NetworkUnreachable)?;
                socket.connect(to).await
            }
        }
    }
}
