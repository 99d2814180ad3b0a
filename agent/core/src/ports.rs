//! Ports of the machine that pods say they use: no two pods here have the same one.
//!
//! Whoever holds a port keeps it; of several that could start, the lowest namespace and name does.
//! Only a start waits. A port is held as long as anything of its pod may live, so that the next one
//! does not find it taken. What a pod binds without saying so is not known here.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::net::IpAddr;

use everynode_model::{Digest, PodKey, Reason};

/// One port of the machine.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct HostPort {
    /// `TCP`, `UDP` or `SCTP`.
    pub protocol: String,
    /// On this address alone; `None` means on every one.
    pub address: Option<IpAddr>,
    /// Its number.
    pub port: u16,
}

/// The ports of each revision that has any.
pub(crate) type Ports = BTreeMap<Digest, Vec<HostPort>>;

/// Why a pod of `revision` in the place `key` must not be made yet: a port of it is held by one of
/// `holding`, the places in which something lives, with what it was made from.
pub(crate) fn conflict(
    ports: &Ports,
    key: &PodKey,
    revision: Digest,
    holding: &BTreeSet<(PodKey, Digest)>,
) -> Option<Reason> {
    let wanted = ports.get(&revision)?;
    let mut others = holding.iter().filter(|(holder, _)| holder != key);
    others.find_map(|(holder, made_from)| {
        let held = ports.get(made_from)?;
        let port = wanted.iter().find(|port| held.iter().any(|other| port.clashes(other)))?;
        let line = format!("port {port} of this machine is held by {holder}");
        Some(Reason::new("HostPortConflict", line))
    })
}

impl HostPort {
    fn clashes(&self, other: &Self) -> bool {
        let same_address = match (self.address, other.address) {
            (Some(one), Some(other)) => one == other,
            _ => true,
        };
        (self.port, &self.protocol) == (other.port, &other.protocol) && same_address
    }
}

impl fmt::Display for HostPort {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.address {
            Some(address @ IpAddr::V6(_)) => write!(f, "[{address}]:")?,
            Some(address) => write!(f, "{address}:")?,
            None => {}
        }
        write!(f, "{}/{}", self.port, self.protocol)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn port(protocol: &str, address: Option<&str>, port: u16) -> HostPort {
        let address = address.map(|address| address.parse().unwrap());
        HostPort { protocol: protocol.into(), address, port }
    }

    #[test]
    fn the_number_the_protocol_and_the_address_count() {
        let http = port("TCP", None, 80);
        assert!(http.clashes(&port("TCP", Some("127.0.0.1"), 80)));
        assert!(port("TCP", Some("::1"), 80).clashes(&http));
        assert!(!http.clashes(&port("UDP", None, 80)));
        assert!(!http.clashes(&port("TCP", None, 81)));
        let (local, other) =
            (port("TCP", Some("127.0.0.1"), 80), port("TCP", Some("127.0.0.2"), 80));
        assert!(!local.clashes(&other) && local.clashes(&local));
    }

    #[test]
    fn a_port_reads_as_people_write_it() {
        assert_eq!(port("TCP", None, 80).to_string(), "80/TCP");
        assert_eq!(port("UDP", Some("127.0.0.1"), 53).to_string(), "127.0.0.1:53/UDP");
        assert_eq!(port("TCP", Some("::1"), 80).to_string(), "[::1]:80/TCP");
    }
}
