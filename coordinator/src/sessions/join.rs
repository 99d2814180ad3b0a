//! A machine's first call: a token against an identity.

use everynode_coordinator_core::{Command, NodeRecord, Outcome};
use everynode_model::{Digest, Labels, NodeName, NodeUid, Taint};
use everynode_model::{valid_label_value, valid_qualified_name};
use everynode_proto::error::Invalid;
use everynode_proto::v1;
use tonic::Status;
use uuid::Uuid;

use super::issue::Issuer;
use crate::driver::Handle;
use crate::pki::read_request;
use crate::status;

/// How many labels or taints a machine may bring: ten times what anybody gives a machine.
const MAX_MARKS: usize = 256;

/// How long a machine id may be: the usual one has 32 digits.
const MAX_MACHINE_ID: usize = 128;

/// Registers the machine and gives it its certificate.
///
/// # Errors
/// As the contract says of `Join`.
pub(super) async fn join(
    handle: &Handle,
    issuer: &Issuer,
    request: v1::JoinRequest,
    fresh: Uuid,
) -> Result<v1::JoinResponse, Status> {
    let signing = read_request(&request.certificate_request)
        .map_err(|error| Invalid::new("certificate_request", error))?;
    let command = command(&request, signing.public_key(), fresh)?;
    let outcome = handle.command(command).await.map_err(|error| status::command(&error))?;
    let Outcome::Joined(node) = outcome else {
        return Err(Status::internal("joining led to something else"));
    };
    tracing::info!(node = %node.uid, name = %node.name, "joined");
    response(issuer, &node, &request.certificate_request)
}

fn command(request: &v1::JoinRequest, public_key: Digest, fresh: Uuid) -> Result<Command, Invalid> {
    if request.machine_id.len() > MAX_MACHINE_ID {
        let detail = format!("longer than {MAX_MACHINE_ID} bytes");
        return Err(Invalid::new("machine_id", detail));
    }
    Ok(Command::Join {
        token_id: request.token_id.clone(),
        token_secret: Digest::of(request.token_secret.as_bytes()),
        uid: NodeUid::new(fresh),
        name: NodeName::new(&request.node_name)
            .map_err(|error| Invalid::new("node_name", error))?,
        public_key,
        machine_id: request.machine_id.clone(),
        labels: labels(request)?,
        taints: taints(&request.taints)?,
    })
}

fn labels(request: &v1::JoinRequest) -> Result<Labels, Invalid> {
    within("labels", request.labels.len())?;
    for (key, value) in &request.labels {
        let field = || format!("labels[{key}]");
        if !valid_qualified_name(key) {
            return Err(Invalid::new(&field(), "not a label's key"));
        }
        if !valid_label_value(value) {
            return Err(Invalid::new(&field(), format!("{value:?} is not a label's value")));
        }
    }
    Ok(request.labels.clone().into_iter().collect())
}

fn taints(taints: &[String]) -> Result<Vec<Taint>, Invalid> {
    within("taints", taints.len())?;
    let parse = |text: &String| {
        text.parse().map_err(|error| Invalid::new("taints", format!("{text:?}: {error}")))
    };
    taints.iter().map(parse).collect()
}

fn within(field: &str, count: usize) -> Result<(), Invalid> {
    if count > MAX_MARKS {
        return Err(Invalid::new(field, format!("more than {MAX_MARKS}")));
    }
    Ok(())
}

fn response(issuer: &Issuer, node: &NodeRecord, csr: &[u8]) -> Result<v1::JoinResponse, Status> {
    Ok(v1::JoinResponse {
        node_uid: node.uid.to_string(),
        cluster_id: issuer.cluster.to_string(),
        certificate_chain: issuer.chain(node.uid, csr)?,
        authorities: issuer.authorities(),
        node_name: node.name.to_string(),
    })
}
