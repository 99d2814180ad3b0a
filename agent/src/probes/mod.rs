//! One try of a probe, and one run of a hook: what is asked, how long that may take, and why it failed
//! in the kubelet's words. What follows from it is the core's business.
//!
//! Each is a task that waits for a socket, never a thread (but for looking up a name that is no
//! address and not `localhost`, as nobody writes).

mod dial;
mod grpc;
mod http;
mod network;
mod program;
mod tls;

use std::sync::Arc;
use std::time::Duration;

use everynode_agent_core::{Handler, PodRef};
use everynode_runtime::Runtime;
use tokio::sync::Semaphore;

use self::http::Url;
use crate::facts::Address;
use dial::Place;
use network::Network;
use tls::Trusting;

/// Tries of probes under way at once. Each has a descriptor or two, of the 1024 that a process may have
/// where nobody says more; on a machine there are some hundred, of which a few are under way at once.
const AT_ONCE: usize = 256;

/// Between tries at what could not be tried for no fault of the pod's.
const AGAIN: Duration = Duration::from_secs(1);

/// The name by which servers know who asks.
const USER_AGENT: &str = concat!("everynode-probe/", env!("CARGO_PKG_VERSION"));

/// Tries probes and runs hooks.
#[derive(Clone)]
pub(crate) struct Prober {
    runtime: Arc<dyn Runtime>,
    slots: Arc<Semaphore>,
    tls: Trusting,
    /// That of pods in the machine's network.
    address: Address,
}

/// Of whom it is.
#[derive(Clone, Debug)]
pub(crate) struct Target {
    /// The pod.
    pub(crate) pod: PodRef,
    /// The container.
    pub(crate) container: String,
}

impl Prober {
    /// For pods with this address, where they share the machine's network.
    pub(crate) fn new(runtime: Arc<dyn Runtime>, address: Address) -> Self {
        Self { runtime, slots: Arc::new(Semaphore::new(AT_ONCE)), tls: Trusting::new(), address }
    }

    /// One try of a probe: why it failed, in one line. `None` where the run that was asked has ended.
    pub(crate) async fn probe(
        &self,
        target: &Target,
        handler: &Handler,
        timeout: Duration,
    ) -> Option<Result<(), String>> {
        // Its time begins when it does: that this agent is busy is no container's fault.
        let _slot = self.slots.acquire().await.ok()?;
        let outcome = match handler {
            Handler::Exec(words) => {
                return program::run(&*self.runtime, target, words, Some(timeout)).await;
            }
            Handler::Http { tls, host, port, path, headers } => {
                let (place, network) = self.place(target, host.as_deref(), *port).await?;
                let url = Url::new(*tls, place, path);
                let got = http::get(&url, headers, &self.tls, &network);
                match tokio::time::timeout(timeout, got).await {
                    Ok(Ok(status)) => http::judge(status),
                    Ok(Err(error)) => Err(format!("Get \"{url}\": {error}")),
                    Err(_) => Err(format!("Get \"{url}\": {TOO_LATE}")),
                }
            }
            Handler::Tcp { host, port } => {
                let (place, network) = self.place(target, host.as_deref(), *port).await?;
                match tokio::time::timeout(timeout, dial::dial(&place, &network)).await {
                    Ok(dialled) => dialled.map(drop).map_err(|error| error.to_string()),
                    Err(_) => Err(format!("dial tcp {place}: i/o timeout")),
                }
            }
            Handler::Grpc { port, service } => {
                let (place, network) = self.place(target, None, *port).await?;
                grpc::check(&place, service, timeout, &network).await
            }
            Handler::Sleep(_) => Err("invalid probe: it sleeps".to_owned()),
        };
        Some(outcome)
    }

    /// Runs a hook: why it failed, in one line. `None` where the run that it belongs to has ended.
    pub(crate) async fn hook(
        &self,
        target: &Target,
        handler: &Handler,
        within: Option<Duration>,
    ) -> Option<Result<(), String>> {
        let run = async {
            let outcome = match handler {
                Handler::Exec(words) => {
                    return program::run(&*self.runtime, target, words, within).await;
                }
                Handler::Http { tls, host, port, path, headers } => {
                    let (place, network) = self.place(target, host.as_deref(), *port).await?;
                    let url = Url::new(*tls, place, path);
                    let got = http::get_or_plain(&url, headers, &self.tls, &network).await;
                    // As with the kubelet, whatever the answer says.
                    got.map(drop).map_err(|error| format!("Get \"{url}\": {error}"))
                }
                Handler::Sleep(time) => {
                    tokio::time::sleep(*time).await;
                    Ok(())
                }
                // Admitted by Kubernetes, and never run.
                Handler::Tcp { .. } => Err("invalid handler: tcpSocket".to_owned()),
                Handler::Grpc { .. } => Err("invalid handler: grpc".to_owned()),
            };
            Some(outcome)
        };
        let Some(within) = within else { return run.await };
        match tokio::time::timeout(within, run).await {
            Ok(outcome) => outcome,
            Err(_) => Some(Err(format!("not done within {within:?}"))),
        }
    }

    /// Where something is to be asked, and from which network; `None` where the pod has ended.
    async fn place(
        &self,
        target: &Target,
        host: Option<&str>,
        port: u16,
    ) -> Option<(Place, Network)> {
        let network = Network::of(&self.runtime, &target.pod).await?;
        let host = host.filter(|host| !host.is_empty()).map(str::to_owned);
        let host = host.unwrap_or_else(|| network.address(self.address.now()));
        Some((Place { host, port }, network))
    }
}

/// Go's words for a request that took too long.
const TOO_LATE: &str = "context deadline exceeded (Client.Timeout exceeded while awaiting headers)";

#[cfg(test)]
mod tests;
