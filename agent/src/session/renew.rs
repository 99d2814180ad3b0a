//! A fresh certificate for the same key: asked for when the coordinator said so, or when it took no
//! other. This machine's own date is never asked.
//!
//! ```text
//!   told when ── then ──▶ Renew ── answer checked ── written down ──▶ the next dial shows it
//!       ▲                   │ refused, silent, not written
//!       └── in some minutes ┘
//! ```

use std::sync::Arc;
use std::time::Duration;

use everynode_proto::error::reason_of;
use everynode_proto::v1;
use everynode_proto::v1::agent_client::AgentClient;
use everynode_transport::channel::client_config;
use everynode_transport::{ClientIdentity, Connected, Peer};
use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use rcgen::{CertificateParams, KeyPair};
use rustls_pki_types::CertificateDer;
use tokio::time::Instant;
use tonic::{Request, Status};

use crate::identity::{Identity, IdentityError, IdentityStore};
use crate::random::Random;

/// The contract's deadline of a call to Renew.
const DEADLINE: Duration = Duration::from_secs(30);
/// The longest wait after one that came to nothing: there are months left, or the next session is
/// refused and asks at once.
const AGAIN: Duration = Duration::from_secs(10 * 60);

/// What a renewal came to.
pub(super) type Outcome = Result<Renewed, RenewError>;

/// This machine's identity with its new certificate; it is on disk.
pub(super) struct Renewed {
    pub(super) identity: Identity,
    /// After how long the next is due.
    pub(super) next: Option<Duration>,
}

/// Why there is no new certificate.
#[derive(Debug, thiserror::Error)]
pub(super) enum RenewError {
    #[error("{} ({:?})", .0.message(), .0.code())]
    Refused(Status),
    #[error("the coordinator does not answer")]
    Silent,
    #[error("the coordinator's answer has an invalid {0}")]
    Answer(&'static str),
    #[error("the request can't be signed: {0}")]
    Request(#[source] rcgen::Error),
    #[error("the new certificate can't be written down: {0}")]
    NotSaved(#[source] IdentityError),
}

impl RenewError {
    /// The coordinator's word for its refusal.
    pub(super) fn reason(&self) -> Option<String> {
        if let Self::Refused(status) = self { reason_of(status) } else { None }
    }
}

/// When the certificate is to be renewed, and the renewal under way.
#[derive(Default)]
pub(super) struct Renewals {
    due: Option<Instant>,
    running: Option<BoxFuture<'static, Outcome>>,
}

impl Renewals {
    /// The coordinator has said after how long, or that it need not be.
    pub(super) fn told(&mut self, after: Option<Duration>) {
        self.due = after.and_then(|after| Instant::now().checked_add(after));
    }

    /// One came to nothing.
    pub(super) fn later(&mut self, random: &mut Random) {
        self.told(Some(random.below(AGAIN)));
    }

    /// Waits until a renewal is done, which begins when it is due; for ever when none is. May be
    /// dropped and called again.
    pub(super) async fn done(
        &mut self,
        begin: impl Fn() -> BoxFuture<'static, Outcome>,
    ) -> Outcome {
        let running = match &mut self.running {
            Some(running) => running,
            None => {
                let Some(due) = self.due else { return std::future::pending().await };
                tokio::time::sleep_until(due).await;
                self.due = None;
                self.running.insert(begin())
            }
        };
        let outcome = running.await;
        self.running = None;
        outcome
    }
}

/// Asks over this connection, checks the answer and writes it down.
pub(super) fn renew(
    connected: &Connected,
    identity: &Identity,
    store: &Arc<dyn IdentityStore>,
) -> BoxFuture<'static, Outcome> {
    let mut client = AgentClient::new(connected.channel.clone());
    let (shown, identity) = (connected.authorities.clone(), identity.clone());
    let store = Arc::clone(store);
    async move {
        let mut request = Request::new(request(&identity).map_err(RenewError::Request)?);
        request.set_timeout(DEADLINE);
        let answer = match tokio::time::timeout(DEADLINE, client.renew(request)).await {
            Ok(Ok(answer)) => answer.into_inner(),
            Ok(Err(status)) => return Err(RenewError::Refused(status)),
            Err(_) => return Err(RenewError::Silent),
        };
        let next = answer.renew_in_millis.map(Duration::from_millis);
        let identity = accept(answer, &identity, &shown).map_err(RenewError::Answer)?;
        store.save(identity.clone()).await.map_err(RenewError::NotSaved)?;
        Ok(Renewed { identity, next })
    }
    .boxed()
}

fn request(identity: &Identity) -> Result<v1::RenewRequest, rcgen::Error> {
    let key = KeyPair::try_from(&identity.client.key)?;
    let signed = CertificateParams::default().serialize_request(&key)?;
    Ok(v1::RenewRequest { certificate_request: signed.der().to_vec() })
}

/// What would lock this machine out, or make it somebody else, is not taken.
fn accept(
    answer: v1::RenewResponse,
    former: &Identity,
    shown: &[CertificateDer<'static>],
) -> Result<Identity, &'static str> {
    let ders = |ders: Vec<Vec<u8>>| ders.into_iter().map(CertificateDer::from).collect();
    let chain: Vec<_> = ders(answer.certificate_chain);
    let authorities: Vec<_> = ders(answer.authorities);
    let leaf = chain.first().ok_or("certificate_chain")?;
    let (cluster, uid) = (former.cluster, former.node);
    match Peer::from_certificate(leaf) {
        Ok((peer, _)) if peer == (Peer::Node { cluster, uid }) => {}
        _ => return Err("certificate_chain"),
    }
    if !authorities.iter().any(|authority| shown.contains(authority)) {
        return Err("authorities");
    }
    let client = ClientIdentity { chain, key: former.client.key.clone_key() };
    let identity = Identity { client, authorities, ..former.clone() };
    // A certificate for another key fits no configuration.
    match client_config(&identity.trust(), Some(&identity.client), None) {
        Ok(_) => Ok(identity),
        Err(_) => Err("certificate_chain"),
    }
}
