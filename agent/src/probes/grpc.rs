//! `grpc.health.v1.Health/Check`, in plain HTTP/2.

use std::time::Duration;

use hyper_util::rt::TokioIo;
use tonic::Code;
use tonic::transport::{Endpoint, Uri};
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_check_response::ServingStatus;
use tonic_health::pb::health_client::HealthClient;

use super::USER_AGENT;
use super::dial::{DialError, Place, dial};
use super::network::Network;

/// Whether the service says that it serves; the server as a whole, where its name is empty.
pub(super) async fn check(
    place: &Place,
    service: &str,
    within: Duration,
    network: &Network,
) -> Result<(), String> {
    let until = tokio::time::Instant::now() + within;
    let endpoint = Endpoint::from_shared(format!("http://{place}"))
        .and_then(|endpoint| endpoint.user_agent(USER_AGENT))
        .map_err(|error| format!("error: failed to connect service at \"{place}\": {error}"))?;
    let (to, network) = (place.clone(), network.clone());
    let connector = tower::service_fn(move |_: Uri| {
        let (to, network) = (to.clone(), network.clone());
        async move { dial(&to, &network).await.map(TokioIo::new) }
    });
    let connecting = endpoint.connect_with_connector(connector);
    let channel = match tokio::time::timeout_at(until, connecting).await {
        Ok(Ok(channel)) => channel,
        Ok(Err(error)) => {
            let why = cause(&error);
            return Err(format!("error: failed to connect service at \"{place}\": {why}"));
        }
        Err(_) => {
            return Err(format!(
                "timeout: failed to connect service \"{place}\" within {within:?}"
            ));
        }
    };
    let mut client = HealthClient::new(channel);
    let request = HealthCheckRequest { service: service.to_owned() };
    let answered = tokio::time::timeout_at(until, client.check(request)).await;
    let Ok(answer) = answered else {
        return Err(format!("timeout: health rpc did not complete within {within:?}"));
    };
    match answer {
        Ok(response) => match response.into_inner().status() {
            ServingStatus::Serving => Ok(()),
            other => Err(format!("service unhealthy (responded with \"{}\")", other.as_str_name())),
        },
        Err(status) if status.code() == Code::Unimplemented => Err(format!(
            "error: this server does not implement the grpc health protocol \
             (grpc.health.v1.Health): {}",
            status.message()
        )),
        Err(status) => Err(format!("error: health rpc probe failed: {}", status.message())),
    }
}

/// The kernel's words, where it was the kernel that refused.
fn cause(error: &tonic::transport::Error) -> String {
    let mut at: Option<&(dyn std::error::Error + 'static)> = Some(error);
    while let Some(error) = at {
        if let Some(error) = error.downcast_ref::<DialError>() {
            return error.words();
        }
        at = error.source();
    }
    error.to_string()
}
