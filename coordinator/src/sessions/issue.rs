//! Certificates for nodes, in the form in which they are sent; and their renewal.

use std::time::Duration;

use everynode_coordinator_core::NodeRecord;
use everynode_model::{ClusterId, NodeUid, WallTime};
use everynode_proto::error::Invalid;
use everynode_proto::v1;
use everynode_transport::Validity;
use tonic::Status;

use crate::auth::{Denial, nodes};
use crate::pki::{Pki, read_request, renew_in};
use crate::tls::PeerIdentity;

/// Who signs for nodes, of which cluster, and for how long.
#[derive(Clone)]
pub(super) struct Issuer {
    pub(super) pki: Pki,
    pub(super) cluster: ClusterId,
    pub(super) lasts: Duration,
}

impl Issuer {
    /// A certificate for the key in this request, with what leads to an authority.
    pub(super) fn chain(&self, node: NodeUid, csr: &[u8]) -> Result<Vec<Vec<u8>>, Status> {
        let issued = self.pki.issue_node(csr, self.cluster, node, self.lasts);
        let chain = issued.map_err(|error| {
            tracing::error!(%error, "a certificate could not be issued");
            Status::internal("a certificate could not be issued; the coordinator's log says why")
        })?;
        Ok(chain.iter().map(|certificate| certificate.to_vec()).collect())
    }

    /// Whom a node is to trust from now on.
    pub(super) fn authorities(&self) -> Vec<Vec<u8>> {
        self.pki.authorities().iter().map(|authority| authority.to_vec()).collect()
    }

    /// A fresh certificate for a node that shows this one.
    ///
    /// # Errors
    /// As the contract says of `Renew`.
    pub(super) fn renew(
        &self,
        identity: &PeerIdentity,
        node: &NodeRecord,
        request: &v1::RenewRequest,
        now: WallTime,
    ) -> Result<v1::RenewResponse, Status> {
        nodes::may_renew(identity, node)?;
        let csr = &request.certificate_request;
        let signing = read_request(csr).map_err(|e| Invalid::new("certificate_request", e))?;
        if signing.public_key() != node.public_key {
            return Err(Denial::OtherKey.into());
        }
        let chain = self.chain(node.uid, csr)?;
        let validity = chain.first().and_then(|leaf| Validity::of_der(leaf));
        Ok(v1::RenewResponse {
            certificate_chain: chain,
            authorities: self.authorities(),
            renew_in_millis: validity.and_then(|validity| when(validity, node.uid, now)),
        })
    }
}

/// When a certificate is to be renewed, as it is said.
pub(super) fn when(validity: Validity, node: NodeUid, now: WallTime) -> Option<u64> {
    let span = renew_in(validity, node, now)?;
    Some(u64::try_from(span.as_millis()).unwrap_or(u64::MAX))
}
