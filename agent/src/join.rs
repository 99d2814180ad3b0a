//! Joining: once in a machine's life in a cluster, with a token.
//!
//! The same key is shown at every attempt, so an answer that was lost is simply asked for again:
//! the token is not spent twice.

use std::collections::BTreeMap;
use std::time::Duration;

use everynode_model::{Labels, NodeName, Taint};
use everynode_proto::error::reason_of;
use everynode_proto::v1;
use everynode_proto::v1::agent_client::AgentClient;
use everynode_transport::{ClientIdentity, ConnectError, Dial, JoinToken, Options, Trust, connect};
use rcgen::{CertificateParams, KeyPair};
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use tonic::{Code, Request, Status};

use crate::clock::Clock;
use crate::identity::Identity;
use crate::random::Random;
use crate::session::backoff::Backoff;

/// The contract's deadline of a call to Join.
const DEADLINE: Duration = Duration::from_secs(30);

/// What a machine asks for.
#[derive(Clone, Debug)]
pub struct Wish {
    /// Its leave to join.
    pub token: JoinToken,
    /// The name it wants.
    pub name: NodeName,
    /// The labels it begins with.
    pub labels: Labels,
    /// The taints it begins with.
    pub taints: Vec<Taint>,
    /// `/etc/machine-id`.
    pub machine_id: String,
    /// Where coordinators are.
    pub addresses: Vec<String>,
}

/// Why a machine will not join, however often it asks.
#[derive(Debug, thiserror::Error)]
pub enum JoinError {
    /// The coordinator refuses.
    #[error("cannot join: {message} ({reason}){}", hint(reason))]
    Refused {
        /// The refusal's name.
        reason: String,
        /// The coordinator's words.
        message: String,
    },
    /// Whoever is there is not whom the token is for, or no address can ever work.
    #[error("cannot join: {0}")]
    Connect(#[from] ConnectError),
    /// The coordinator's answer makes no sense.
    #[error("cannot join: the coordinator's answer has an invalid {0}")]
    Answer(&'static str),
    /// The request can't be signed.
    #[error("cannot sign the request to join: {0}")]
    Request(#[source] rcgen::Error),
}

/// How one attempt ended, if not well.
enum Failed {
    ForGood(JoinError),
    ForNow(String),
}

/// Asks until there is an answer that counts. Each new cause of failing is logged once.
///
/// # Errors
/// When asking again can't help.
pub async fn join(
    dial: &dyn Dial,
    clock: &dyn Clock,
    wish: &Wish,
    key: &KeyPair,
    random: &mut Random,
) -> Result<Identity, JoinError> {
    let mut backoff = Backoff::default();
    let mut logged = String::new();
    loop {
        match attempt(dial, clock, wish, key).await {
            Ok(identity) => return Ok(identity),
            Err(Failed::ForGood(error)) => return Err(error),
            Err(Failed::ForNow(why)) => {
                if logged != why {
                    tracing::warn!("cannot join yet, trying on: {why}");
                    logged = why;
                }
                tokio::time::sleep(backoff.next(random)).await;
            }
        }
    }
}

async fn attempt(
    dial: &dyn Dial,
    clock: &dyn Clock,
    wish: &Wish,
    key: &KeyPair,
) -> Result<Identity, Failed> {
    let trust = Trust::Digest(wish.token.authority);
    let options = Options { date: Some(clock.now().wall), ..Options::default() };
    let connected = connect(dial, &wish.addresses, &trust, None, options).await;
    let connected = connected.map_err(judge_connection)?;
    let mut request = Request::new(request(wish, key).map_err(Failed::ForGood)?);
    request.set_timeout(DEADLINE);
    let mut client = AgentClient::new(connected.channel);
    let answer = tokio::time::timeout(DEADLINE, client.join(request)).await;
    match answer {
        Ok(Ok(answer)) => accept(answer.into_inner(), wish, key)
            .map_err(JoinError::Answer)
            .map_err(Failed::ForGood),
        Ok(Err(status)) => Err(judge_answer(&status)),
        Err(_) => Err(Failed::ForNow("the coordinator does not answer".into())),
    }
}

fn request(wish: &Wish, key: &KeyPair) -> Result<v1::JoinRequest, JoinError> {
    let params = CertificateParams::default();
    let signed = params.serialize_request(key).map_err(JoinError::Request)?;
    Ok(v1::JoinRequest {
        token_id: wish.token.id.clone(),
        token_secret: wish.token.secret.clone(),
        certificate_request: signed.der().to_vec(),
        node_name: wish.name.to_string(),
        machine_id: wish.machine_id.clone(),
        labels: wish.labels.clone().into_iter().collect(),
        taints: wish.taints.iter().map(ToString::to_string).collect(),
    })
}

fn accept(answer: v1::JoinResponse, wish: &Wish, key: &KeyPair) -> Result<Identity, &'static str> {
    let ders = |ders: Vec<Vec<u8>>| ders.into_iter().map(CertificateDer::from).collect();
    let chain: Vec<_> = ders(answer.certificate_chain);
    let authorities: Vec<_> = ders(answer.authorities);
    if chain.is_empty() {
        return Err("certificate_chain");
    }
    if authorities.is_empty() {
        return Err("authorities");
    }
    let key = PrivateKeyDer::try_from(key.serialize_der()).map_err(|_| "key")?;
    Ok(Identity {
        cluster: answer.cluster_id.parse().map_err(|_| "cluster_id")?,
        node: answer.node_uid.parse().map_err(|_| "node_uid")?,
        name: NodeName::new(&answer.node_name).map_err(|_| "node_name")?,
        client: ClientIdentity { chain, key },
        authorities,
        addresses: wish.addresses.clone(),
        formers: Vec::new(),
    })
}

/// A coordinator may still be starting, a network coming up; a wrong CA stays wrong.
fn judge_connection(error: ConnectError) -> Failed {
    let hopeless = matches!(error, ConnectError::NoAddress | ConnectError::BadAddress { .. });
    if hopeless || error.is_not_trusted() {
        Failed::ForGood(error.into())
    } else {
        Failed::ForNow(error.to_string())
    }
}

fn judge_answer(status: &Status) -> Failed {
    let refused = matches!(
        status.code(),
        Code::InvalidArgument
            | Code::NotFound
            | Code::AlreadyExists
            | Code::PermissionDenied
            | Code::Unauthenticated
            | Code::FailedPrecondition
            | Code::Unimplemented
            | Code::OutOfRange
    );
    if refused {
        let reason = reason_of(status).unwrap_or_else(|| format!("{:?}", status.code()));
        Failed::ForGood(JoinError::Refused { reason, message: status.message().into() })
    } else {
        Failed::ForNow(format!("{} ({:?})", status.message(), status.code()))
    }
}

/// What to do about a refusal.
fn hint(reason: &str) -> &'static str {
    match reason {
        "TokenInvalid" | "TokenExpired" | "TokenUsedUp" => {
            ": make another with `everynode token create`"
        }
        "NameTaken" => {
            ": choose another --node-name, or make a token for this one with \
             `everynode token create --node-name NAME --replace`"
        }
        "TokenForOtherNode" => ": give --node-name the name that the token is for",
        _ => "",
    }
}

/// A machine's own labels and those it was started with; the latter outdo.
pub fn labels(machine: Labels, given: Labels) -> Labels {
    let mut labels: BTreeMap<_, _> = machine;
    labels.extend(given);
    labels.retain(|_, value| everynode_model::valid_label_value(value));
    labels
}

#[cfg(test)]
mod tests {
    use super::*;
    use everynode_proto::error::refusal;

    #[test]
    fn refusals_end_it_and_the_rest_is_tried_again() {
        for code in [Code::PermissionDenied, Code::AlreadyExists, Code::InvalidArgument] {
            let Failed::ForGood(error) = judge_answer(&refusal(code, "NameTaken", "n is taken"))
            else {
                panic!("{code:?} is a refusal");
            };
            let line = error.to_string();
            assert!(line.starts_with("cannot join: n is taken (NameTaken): choose"), "{line}");
        }
        for code in [Code::Unavailable, Code::Unknown, Code::Internal, Code::DeadlineExceeded] {
            assert!(matches!(judge_answer(&Status::new(code, "")), Failed::ForNow(_)), "{code:?}");
        }
    }

    #[test]
    fn a_wrong_ca_is_not_waited_for() {
        let wrong = ConnectError::NotTrusted { address: "a:1".into() };
        assert!(matches!(judge_connection(wrong), Failed::ForGood(_)));
        let dead = ConnectError::Refused { address: "a:1".into() };
        assert!(matches!(judge_connection(dead), Failed::ForNow(_)));
    }

    #[test]
    fn given_labels_outdo_the_machines_own() {
        let map = |pairs: &[(&str, &str)]| -> Labels {
            pairs.iter().map(|(key, value)| ((*key).into(), (*value).into())).collect()
        };
        let merged = labels(map(&[("a", "1"), ("b", "not valid!")]), map(&[("a", "2")]));
        assert_eq!(merged, map(&[("a", "2")]));
    }
}
