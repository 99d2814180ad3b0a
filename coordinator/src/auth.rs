//! Who may call what: one table, and one layer that asks it before any service is reached.
//!
//! A node only has to be one of this cluster here, whatever the date of its certificate: what it is
//! good for depends on what is recorded of the node ([`nodes`]), which the service looks up.

pub mod nodes;

use std::task::{Context, Poll};

use everynode_model::{ClusterId, NodeUid};
use everynode_proto::error::refusal;
use everynode_transport::{Peer, Role};
use futures_util::future::{Either, Ready, ready};
use http::{Request, Response};
use tonic::body::Body;
use tonic::{Code, Status};
use tower::{Layer, Service};

use crate::accept::ConnectInfo;
use crate::tls::PeerIdentity;

/// What a caller must be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Required {
    /// Anybody who can open a connection.
    Nobody,
    /// A node.
    Node,
    /// A user with any role.
    Viewer,
    /// A user who may change things.
    Admin,
}

/// Why a call was not let through.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Denial {
    /// The caller showed no certificate, or none that names anyone.
    #[error("a client certificate is needed: nodes get theirs by joining, users have admin.conf")]
    NoCertificate,
    /// Its time is over.
    #[error(
        "the client certificate has expired: a node renews it, and a user has a new admin.conf \
         written by `everynode-coordinator admin-conf`"
    )]
    CertificateExpired,
    /// It is for another key than the one that the node joined with.
    #[error("the client certificate is for another key than the one that this node joined with")]
    OtherKey,
    /// The node does not belong any more.
    #[error("this node was removed: there is nothing left for it but to leave")]
    NodeRemoved,
    /// It is another cluster's.
    #[error("the client certificate is of cluster {0}, which is not this one")]
    OtherCluster(ClusterId),
    /// The caller is somebody else than it must be.
    #[error("{who} may not call {method}: it is for {wanted}")]
    WrongRole {
        /// The caller.
        who: String,
        /// What it called.
        method: String,
        /// Who may.
        wanted: &'static str,
    },
    /// Nobody may call what is not in the table.
    #[error("there is no method {method}")]
    UnknownMethod {
        /// What was called.
        method: String,
    },
}

/// Every method, and what its caller must be. What is not listed is nobody's.
const METHODS: [(&str, Required); 44] = [
    ("/everynode.v1.Agent/Join", Required::Nobody),
    ("/everynode.v1.Agent/Renew", Required::Node),
    ("/everynode.v1.Agent/Session", Required::Node),
    ("/everynode.v1.Cluster/Info", Required::Viewer),
    ("/everynode.v1.Cluster/Resume", Required::Admin),
    ("/everynode.v1.Cluster/Status", Required::Viewer),
    ("/everynode.v1.Cluster/Why", Required::Viewer),
    ("/everynode.v1.DaemonSets/Apply", Required::Admin),
    ("/everynode.v1.DaemonSets/Create", Required::Admin),
    ("/everynode.v1.DaemonSets/Delete", Required::Admin),
    ("/everynode.v1.DaemonSets/Get", Required::Viewer),
    ("/everynode.v1.DaemonSets/List", Required::Viewer),
    ("/everynode.v1.DaemonSets/Replace", Required::Admin),
    ("/everynode.v1.DaemonSets/Revisions", Required::Viewer),
    ("/everynode.v1.DaemonSets/Undo", Required::Admin),
    ("/everynode.v1.DaemonSets/Watch", Required::Viewer),
    ("/everynode.v1.Events/List", Required::Viewer),
    ("/everynode.v1.Events/Watch", Required::Viewer),
    ("/everynode.v1.Nodes/Change", Required::Admin),
    ("/everynode.v1.Nodes/Delete", Required::Admin),
    ("/everynode.v1.Nodes/Get", Required::Viewer),
    ("/everynode.v1.Nodes/List", Required::Viewer),
    ("/everynode.v1.Nodes/Usage", Required::Viewer),
    ("/everynode.v1.Nodes/Watch", Required::Viewer),
    ("/everynode.v1.Objects/Delete", Required::Admin),
    // A Secret's values are shown to admins only: that is the service's to see.
    ("/everynode.v1.Objects/Get", Required::Viewer),
    ("/everynode.v1.Objects/List", Required::Viewer),
    ("/everynode.v1.Objects/Put", Required::Admin),
    ("/everynode.v1.Objects/Watch", Required::Viewer),
    ("/everynode.v1.Pods/Delete", Required::Admin),
    // Whoever may do this has the rights of every container.
    ("/everynode.v1.Pods/Exec", Required::Admin),
    ("/everynode.v1.Pods/Get", Required::Viewer),
    ("/everynode.v1.Pods/List", Required::Viewer),
    // As in Kubernetes' role `view`; the last lines of what failed are in `Get`, too.
    ("/everynode.v1.Pods/Logs", Required::Viewer),
    ("/everynode.v1.Pods/Watch", Required::Viewer),
    ("/everynode.v1.Streams/Attach", Required::Node),
    ("/everynode.v1.Tokens/Create", Required::Admin),
    // Ids and names of tokens are no secrets, but of use to nobody who can't make one.
    ("/everynode.v1.Tokens/List", Required::Admin),
    ("/everynode.v1.Tokens/Revoke", Required::Admin),
    ("/grpc.health.v1.Health/Check", Required::Nobody),
    ("/grpc.health.v1.Health/List", Required::Nobody),
    ("/grpc.health.v1.Health/Watch", Required::Nobody),
    ("/grpc.reflection.v1.ServerReflection/ServerReflectionInfo", Required::Nobody),
    ("/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo", Required::Nobody),
];

/// What the caller of `method` (`/package.Service/Method`) must be; `None` if it is not listed.
pub fn required(method: &str) -> Option<Required> {
    METHODS.iter().find(|(listed, _)| *listed == method).map(|(_, required)| *required)
}

/// Whether who is at the other end of a connection may call `method` of `cluster`.
///
/// # Errors
/// Why not.
pub fn check(
    method: &str,
    identity: Option<&PeerIdentity>,
    cluster: ClusterId,
) -> Result<(), Denial> {
    let wanted =
        required(method).ok_or_else(|| Denial::UnknownMethod { method: method.to_owned() })?;
    if wanted == Required::Nobody {
        return Ok(());
    }
    let identity = identity.ok_or(Denial::NoCertificate)?;
    if identity.peer.cluster() != cluster {
        return Err(Denial::OtherCluster(identity.peer.cluster()));
    }
    if !wanted.met_by(&identity.peer) {
        let who = name_of(&identity.peer);
        return Err(Denial::WrongRole { who, method: method.to_owned(), wanted: wanted.as_str() });
    }
    // A node's key outlives its certificate: see [`nodes`].
    let dated = wanted != Required::Node;
    if identity.expired && dated { Err(Denial::CertificateExpired) } else { Ok(()) }
}

/// The node that a request comes from, and what it showed, for services that only nodes may call.
///
/// # Errors
/// The same denial as from [`check`], when it is none.
pub fn node_of<T>(request: &tonic::Request<T>) -> Result<(NodeUid, PeerIdentity), Status> {
    match identity_of(request) {
        Some(identity @ PeerIdentity { peer: Peer::Node { uid, .. }, .. }) => {
            Ok((*uid, identity.clone()))
        }
        _ => Err(Denial::NoCertificate.into()),
    }
}

/// Whether a request comes from a user with the role admin.
pub fn is_admin<T>(request: &tonic::Request<T>) -> bool {
    identity_of(request).is_some_and(|identity| Required::Admin.met_by(&identity.peer))
}

/// The name of the user that a request comes from, for logs and the audit trail.
pub fn user_of<T>(request: &tonic::Request<T>) -> String {
    match identity_of(request).map(|identity| &identity.peer) {
        Some(Peer::User { name, .. }) => name.clone(),
        Some(Peer::Node { .. }) | None => String::new(),
    }
}

fn identity_of<T>(request: &tonic::Request<T>) -> Option<&PeerIdentity> {
    request.extensions().get::<ConnectInfo>()?.identity.as_ref()
}

impl Required {
    fn met_by(self, peer: &Peer) -> bool {
        match (self, peer) {
            (Self::Nobody, _) | (Self::Node, Peer::Node { .. }) => true,
            (Self::Viewer, Peer::User { .. }) => true,
            (Self::Admin, Peer::User { role, .. }) => *role == Role::Admin,
            (Self::Node | Self::Viewer | Self::Admin, _) => false,
        }
    }

    const fn as_str(self) -> &'static str {
        match self {
            Self::Nobody => "anybody",
            Self::Node => "nodes",
            Self::Viewer => "users",
            Self::Admin => "users with the role admin",
        }
    }
}

impl Denial {
    /// The word for programs.
    pub const fn reason(&self) -> &'static str {
        match self {
            Self::NoCertificate => "NoCertificate",
            Self::CertificateExpired => "CertificateExpired",
            Self::OtherKey => "OtherKey",
            Self::NodeRemoved => "NodeRemoved",
            Self::OtherCluster(_) => "OtherCluster",
            // As in Kubernetes.
            Self::WrongRole { .. } => "Forbidden",
            Self::UnknownMethod { .. } => "UnknownMethod",
        }
    }

    const fn code(&self) -> Code {
        match self {
            Self::NoCertificate
            | Self::CertificateExpired
            | Self::OtherCluster(_)
            | Self::OtherKey => Code::Unauthenticated,
            Self::NodeRemoved => Code::FailedPrecondition,
            Self::WrongRole { .. } => Code::PermissionDenied,
            // What a client expects of a server that is older than itself.
            Self::UnknownMethod { .. } => Code::Unimplemented,
        }
    }
}

impl From<Denial> for Status {
    fn from(denial: Denial) -> Self {
        refusal(denial.code(), denial.reason(), denial.to_string())
    }
}

/// Puts [`check`] before every service.
#[derive(Clone, Copy, Debug)]
pub struct AuthLayer {
    cluster: ClusterId,
}

/// A service behind [`AuthLayer`].
#[derive(Clone, Debug)]
pub struct Auth<S> {
    inner: S,
    cluster: ClusterId,
}

impl AuthLayer {
    /// For members of `cluster`.
    pub const fn new(cluster: ClusterId) -> Self {
        Self { cluster }
    }
}

impl<S> Layer<S> for AuthLayer {
    type Service = Auth<S>;

    fn layer(&self, inner: S) -> Auth<S> {
        Auth { inner, cluster: self.cluster }
    }
}

impl<S> Service<Request<Body>> for Auth<S>
where
    S: Service<Request<Body>, Response = Response<Body>>,
{
    type Response = Response<Body>;
    type Error = S::Error;
    type Future = Either<S::Future, Ready<Result<Response<Body>, S::Error>>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let info = request.extensions().get::<ConnectInfo>();
        let identity = info.and_then(|info| info.identity.as_ref());
        match check(request.uri().path(), identity, self.cluster) {
            Ok(()) => Either::Left(self.inner.call(request)),
            Err(denial) => {
                let from = info.map(|info| info.peer_addr);
                tracing::info!(?from, reason = denial.reason(), "denied: {denial}");
                Either::Right(ready(Ok(Status::from(denial).into_http())))
            }
        }
    }
}

fn name_of(peer: &Peer) -> String {
    match peer {
        Peer::Node { uid, .. } => format!("node {uid}"),
        Peer::User { name, .. } => format!("user {name:?}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use everynode_model::Digest;
    use everynode_proto::v1;
    use everynode_transport::Validity;
    use prost::Message as _;
    use prost_types::FileDescriptorSet;
    use std::collections::BTreeSet;
    use uuid::Uuid;

    fn cluster() -> ClusterId {
        ClusterId::new(Uuid::from_u128(1))
    }

    fn identity(peer: Peer) -> PeerIdentity {
        let validity = Validity { not_before: 0, not_after: 0 };
        PeerIdentity { peer, expired: false, validity, public_key: Digest::of(b"") }
    }

    fn user(role: Role) -> PeerIdentity {
        identity(Peer::User { cluster: cluster(), name: "ada".into(), role })
    }

    fn node() -> PeerIdentity {
        identity(Peer::Node { cluster: cluster(), uid: NodeUid::new(Uuid::from_u128(2)) })
    }

    fn reason(method: &str, identity: Option<&PeerIdentity>) -> Option<&'static str> {
        check(method, identity, cluster()).err().map(|denial| denial.reason())
    }

    const SESSION: &str = "/everynode.v1.Agent/Session";
    const RENEW: &str = "/everynode.v1.Agent/Renew";
    const ATTACH: &str = "/everynode.v1.Streams/Attach";
    const LOGS: &str = "/everynode.v1.Pods/Logs";
    const EXEC: &str = "/everynode.v1.Pods/Exec";
    const LIST: &str = "/everynode.v1.Nodes/List";
    const DELETE: &str = "/everynode.v1.Nodes/Delete";

    #[test]
    fn every_method_of_the_contract_is_listed_and_no_other_of_ours() {
        let set = FileDescriptorSet::decode(v1::DESCRIPTORS).unwrap();
        let mut declared = BTreeSet::new();
        for file in &set.file {
            for service in &file.service {
                for method in &service.method {
                    declared.insert(format!(
                        "/{}.{}/{}",
                        file.package(),
                        service.name(),
                        method.name()
                    ));
                }
            }
        }
        let listed: BTreeSet<String> = METHODS
            .iter()
            .map(|(method, _)| (*method).to_owned())
            .filter(|method| method.starts_with("/everynode."))
            .collect();
        assert_eq!(declared, listed);
    }

    #[test]
    fn only_joining_health_and_reflection_are_open() {
        let open: Vec<&str> = METHODS
            .iter()
            .filter(|(method, _)| check(method, None, cluster()).is_ok())
            .map(|(method, _)| *method)
            .collect();
        assert!(open.contains(&"/everynode.v1.Agent/Join"));
        assert_eq!(open.iter().filter(|method| method.starts_with("/everynode.")).count(), 1);
        assert_eq!(reason(LIST, None), Some("NoCertificate"));
    }

    #[test]
    fn each_role_reaches_its_own_and_no_more() {
        let (admin, viewer) = (user(Role::Admin), user(Role::Viewer));
        let nodes = [false, false, true];
        let users = [true, true, false];
        let admins = [false, true, false];
        let who = [(SESSION, nodes), (RENEW, nodes), (ATTACH, nodes)];
        let who = who.into_iter().chain([(LIST, users), (LOGS, users), (EXEC, admins)]);
        for (method, may) in who {
            let asked = [&viewer, &admin, &node()].map(|who| reason(method, Some(who)).is_none());
            assert_eq!(asked, may, "{method}");
        }
        assert_eq!(reason(DELETE, Some(&viewer)), Some("Forbidden"));
        assert_eq!(reason(DELETE, Some(&admin)), None);
        assert_eq!(reason(DELETE, Some(&node())), Some("Forbidden"));
    }

    #[test]
    fn dates_and_clusters_count_here() {
        let expired = PeerIdentity { expired: true, ..user(Role::Admin) };
        assert_eq!(reason(LIST, Some(&expired)), Some("CertificateExpired"));
        assert_eq!(reason("/everynode.v1.Agent/Join", Some(&expired)), None);
        let late = PeerIdentity { expired: true, ..node() };
        assert_eq!(reason(SESSION, Some(&late)), None, "what is recorded of the node decides");
        let other = ClusterId::new(Uuid::from_u128(9));
        let peer = Peer::User { cluster: other, name: "ada".into(), role: Role::Admin };
        assert_eq!(reason(LIST, Some(&identity(peer))), Some("OtherCluster"));
    }

    #[test]
    fn what_is_not_listed_is_denied() {
        for method in ["/everynode.v1.Nodes/Explode", "", "/", "/everynode.v1.Nodes/list"] {
            let denial = check(method, Some(&user(Role::Admin)), cluster()).unwrap_err();
            assert_eq!(Status::from(denial).code(), Code::Unimplemented);
        }
    }

    #[tokio::test]
    async fn a_denied_call_never_reaches_the_service() {
        let inner = tower::service_fn(|_: Request<Body>| {
            ready(Err::<Response<Body>, &str>("the service was reached"))
        });
        let mut service = AuthLayer::new(cluster()).layer(inner);
        let request = Request::builder().uri(LIST).body(Body::empty()).unwrap();
        let response = service.call(request).await.unwrap();
        let status = Status::from_header_map(response.headers()).unwrap();
        assert_eq!(status.code(), Code::Unauthenticated);
    }
}
