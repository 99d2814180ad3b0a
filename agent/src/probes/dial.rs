//! A TCP connection to a port of a pod, and why there is none, in Go's words.

use std::fmt;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use tokio::net::{TcpStream, lookup_host};

use super::network::Network;

/// Where something listens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Place {
    /// An address or a name.
    pub(super) host: String,
    pub(super) port: u16,
}

/// Why nobody could be reached.
#[derive(Debug, thiserror::Error)]
#[error("dial tcp {place}: {}", words(.source))]
pub(super) struct DialError {
    place: Place,
    source: io::Error,
}

impl DialError {
    /// The kernel's, without where.
    pub(super) fn words(&self) -> String {
        words(&self.source)
    }
}

/// Connects. What is closed right after is closed in order: a reset would stand as an error in the log
/// of whoever is asked.
pub(super) async fn dial(place: &Place, network: &Network) -> Result<TcpStream, DialError> {
    let connected = match (place.host.parse::<IpAddr>(), &*place.host) {
        (Ok(address), _) => network.connect((address, place.port).into()).await,
        // RFC 6761: nobody has to be asked who that is.
        (Err(_), "localhost") => {
            let addresses = [IpAddr::from(Ipv4Addr::LOCALHOST), Ipv6Addr::LOCALHOST.into()];
            match network.connect((addresses[0], place.port).into()).await {
                Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => {
                    let other = network.connect((addresses[1], place.port).into()).await;
                    other.map_err(|_| error)
                }
                connected => connected,
            }
        }
        (Err(_), name) => by_name(name, place.port, network).await,
    };
    connected.map_err(|source| DialError { place: place.clone(), source })
}

/// The first of the addresses of that name that answers.
async fn by_name(name: &str, port: u16, network: &Network) -> io::Result<TcpStream> {
    let mut failed = io::Error::from(io::ErrorKind::NotFound);
    for address in lookup_host((name, port)).await? {
        match network.connect(address).await {
            Err(error) => failed = error,
            connected => return connected,
        }
    }
    Err(failed)
}

/// `connect: connection refused`: the kernel's words as Go has them.
fn words(error: &io::Error) -> String {
    let text = error.to_string();
    match error.raw_os_error() {
        Some(number) => {
            let text = text.trim_end_matches(&format!(" (os error {number})")).to_owned();
            format!("connect: {}", text.to_lowercase())
        }
        None => text,
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.host.contains(':') {
            true => write!(f, "[{}]:{}", self.host, self.port),
            false => write!(f, "{}:{}", self.host, self.port),
        }
    }
}
