//! What a node's certificate is good for, by what is recorded of the node. The key tells a machine;
//! the date only says when it is to call.
//!
//! | node        | in time  | over    | for another key |
//! | ---         | ---      | ---     | ---             |
//! | active      | session, renewal | renewal | nothing |
//! | leaving or removed | session, in which it hears Deregister and confirms | the same | nothing |
//! | not known   | nothing: it runs on | the same | the same |

use everynode_coordinator_core::{NodeRecord, NodeStanding};

use super::Denial;
use crate::tls::PeerIdentity;

/// Whether this node may open a session with this certificate.
///
/// # Errors
/// [`Denial::OtherKey`], [`Denial::CertificateExpired`].
pub fn may_open_session(identity: &PeerIdentity, node: &NodeRecord) -> Result<(), Denial> {
    its_key(identity, node)?;
    // However late it calls, it must hear that it was removed.
    let belongs = node.standing == NodeStanding::Active;
    if identity.expired && belongs { Err(Denial::CertificateExpired) } else { Ok(()) }
}

/// Whether this node may have a fresh certificate.
///
/// # Errors
/// [`Denial::OtherKey`], [`Denial::NodeRemoved`].
pub fn may_renew(identity: &PeerIdentity, node: &NodeRecord) -> Result<(), Denial> {
    its_key(identity, node)?;
    match node.standing {
        NodeStanding::Active => Ok(()),
        NodeStanding::Leaving { .. } | NodeStanding::Removed { .. } => Err(Denial::NodeRemoved),
    }
}

fn its_key(identity: &PeerIdentity, node: &NodeRecord) -> Result<(), Denial> {
    if identity.public_key == node.public_key { Ok(()) } else { Err(Denial::OtherKey) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use everynode_model::{ClusterId, Digest, NodeName, NodeUid, WallTime};
    use everynode_transport::{Peer, Validity};
    use uuid::Uuid;

    const UID: NodeUid = NodeUid::new(Uuid::from_u128(2));

    fn node(standing: NodeStanding) -> NodeRecord {
        NodeRecord {
            uid: UID,
            name: NodeName::new("n").unwrap(),
            standing,
            labels: Default::default(),
            taints: Vec::new(),
            stood: std::collections::BTreeMap::new(),
            joined_labels: Default::default(),
            public_key: Digest::of(b"its key"),
            machine_id: String::new(),
            token_id: String::new(),
            joined_at: WallTime::default(),
            unschedulable: false,
            order: everynode_coordinator_core::NodeOrder::None,
            granted: Default::default(),
            resource_version: 0,
        }
    }

    fn shown(key: &[u8], expired: bool) -> PeerIdentity {
        PeerIdentity {
            peer: Peer::Node { cluster: ClusterId::new(Uuid::from_u128(1)), uid: UID },
            expired,
            validity: Validity { not_before: 0, not_after: 0 },
            public_key: Digest::of(key),
        }
    }

    /// Session and renewal, with a certificate in time and with one whose time is over.
    fn table(standing: NodeStanding, key: &[u8]) -> [[Option<&'static str>; 2]; 2] {
        let record = node(standing);
        let reason = |verdict: Result<(), Denial>| verdict.err().map(|denial| denial.reason());
        [false, true].map(|expired| {
            let identity = shown(key, expired);
            [may_open_session(&identity, &record), may_renew(&identity, &record)].map(reason)
        })
    }

    #[test]
    fn the_table_is_as_it_is_written() {
        let at = WallTime::default();
        let active = table(NodeStanding::Active, b"its key");
        assert_eq!(active, [[None, None], [Some("CertificateExpired"), None]]);
        let gone =
            [NodeStanding::Leaving { since: at }, NodeStanding::Removed { confirmed_at: at }];
        for standing in gone {
            let row = [None, Some("NodeRemoved")];
            assert_eq!(table(standing, b"its key"), [row, row]);
        }
        for standing in [NodeStanding::Active, gone[0], gone[1]] {
            assert_eq!(table(standing, b"another"), [[Some("OtherKey"); 2]; 2]);
        }
    }
}
