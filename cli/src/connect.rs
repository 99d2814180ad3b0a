//! One connection to the coordinator, for one command, and what every call on it has in common.

use std::collections::BTreeMap;
use std::future::Future;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use everynode_proto::v1::cluster_client::ClusterClient;
use everynode_proto::v1::daemon_sets_client::DaemonSetsClient;
use everynode_proto::v1::events_client::EventsClient;
use everynode_proto::v1::nodes_client::NodesClient;
use everynode_proto::v1::objects_client::ObjectsClient;
use everynode_proto::v1::pods_client::PodsClient;
use everynode_proto::v1::tokens_client::TokensClient;
use everynode_transport::{ClientIdentity, Options, TcpDial, Trust, connect};
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject as _;
use tonic::metadata::MetadataMap;
use tonic::transport::Channel;
use tonic::{Request, Response, Status, Streaming};

use crate::config::Config;
use crate::error::Error;

/// The largest answer that is taken. 100,000 nodes in one list are 60 MiB; four times that is still
/// nothing a client's memory would not hold.
const MAX_ANSWER: usize = 256 * 1024 * 1024;

/// What a request may take where the user sets no limit: the most that a coordinator grants.
const NO_LIMIT: Duration = Duration::from_secs(60);

/// A connection. Cloning shares it; it never reconnects.
#[derive(Clone)]
pub(crate) struct Client {
    channel: Channel,
    timeout: Duration,
    warnings: Warnings,
    allow_removal: bool,
    show_secrets: bool,
}

/// What the coordinator says beside its answers, each once. Cloning shares it.
#[derive(Clone, Default)]
pub(crate) struct Warnings(Arc<Mutex<BTreeMap<String, bool>>>);

/// The response metadata that warnings come in.
const WARNING: &str = "everynode-warning";

impl Client {
    /// Connects as the configuration says.
    pub(crate) async fn connect(
        config: &Config,
        timeout: Duration,
        warnings: Warnings,
    ) -> Result<Self, Error> {
        let timeout = if timeout.is_zero() { NO_LIMIT } else { timeout };
        let authorities = CertificateDer::pem_slice_iter(&config.authorities)
            .collect::<Result<Vec<_>, _>>()
            .map_err(|error| Error::Connect(format!("the configuration's CA: {error}")))?;
        let identity = ClientIdentity::from_pem(&config.certificate, &config.key)
            .map_err(|error| Error::Connect(format!("the configuration's certificate: {error}")))?;
        let options = Options {
            connect_timeout: timeout.min(Options::default().connect_timeout),
            ..Options::default()
        };
        let connected = connect(
            &TcpDial,
            std::slice::from_ref(&config.address),
            &Trust::Authorities(authorities),
            Some(&identity),
            options,
        )
        .await
        .map_err(|error| Error::Connect(error.to_string()))?;
        let (allow_removal, show_secrets) = (false, false);
        Ok(Self { channel: connected.channel, timeout, warnings, allow_removal, show_secrets })
    }

    /// The same, with what `--allow-removal` says.
    pub(crate) fn allowing_removal(self, allow_removal: bool) -> Self {
        Self { allow_removal, ..self }
    }

    /// Whether changes may stop pods for good, however many.
    pub(crate) const fn allows_removal(&self) -> bool {
        self.allow_removal
    }

    /// The same, which asks for values of Secrets or not.
    pub(crate) fn showing_secrets(self, show_secrets: bool) -> Self {
        Self { show_secrets, ..self }
    }

    /// Whether values of Secrets are asked for.
    pub(crate) const fn shows_secrets(&self) -> bool {
        self.show_secrets
    }

    /// A message as a request with a deadline.
    pub(crate) fn request<M>(&self, message: M) -> Request<M> {
        let mut request = Request::new(message);
        request.set_timeout(self.timeout);
        request
    }

    /// Waits for the answer to a call, no longer than the deadline.
    pub(crate) async fn answer<T>(
        &self,
        call: impl Future<Output = Result<Response<T>, Status>>,
    ) -> Result<T, Error> {
        match tokio::time::timeout(self.timeout, call).await {
            Ok(answer) => {
                let answer = answer?;
                self.warnings.take_in(answer.metadata());
                Ok(answer.into_inner())
            }
            Err(_) => Err(Error::NoAnswer(self.timeout)),
        }
    }

    /// Waits until a stream has begun; the stream itself has no deadline.
    pub(crate) async fn stream<T>(
        &self,
        call: impl Future<Output = Result<Response<Streaming<T>>, Status>>,
    ) -> Result<Streaming<T>, Error> {
        self.answer(call).await
    }

    pub(crate) fn daemon_sets(&self) -> DaemonSetsClient<Channel> {
        DaemonSetsClient::new(self.channel.clone()).max_decoding_message_size(MAX_ANSWER)
    }

    pub(crate) fn objects(&self) -> ObjectsClient<Channel> {
        ObjectsClient::new(self.channel.clone()).max_decoding_message_size(MAX_ANSWER)
    }

    pub(crate) fn nodes(&self) -> NodesClient<Channel> {
        NodesClient::new(self.channel.clone()).max_decoding_message_size(MAX_ANSWER)
    }

    pub(crate) fn pods(&self) -> PodsClient<Channel> {
        PodsClient::new(self.channel.clone()).max_decoding_message_size(MAX_ANSWER)
    }

    pub(crate) fn events(&self) -> EventsClient<Channel> {
        EventsClient::new(self.channel.clone()).max_decoding_message_size(MAX_ANSWER)
    }

    pub(crate) fn tokens(&self) -> TokensClient<Channel> {
        TokensClient::new(self.channel.clone()).max_decoding_message_size(MAX_ANSWER)
    }

    pub(crate) fn cluster(&self) -> ClusterClient<Channel> {
        ClusterClient::new(self.channel.clone()).max_decoding_message_size(MAX_ANSWER)
    }
}

impl Warnings {
    /// Those that were not taken before.
    pub(crate) fn take(&self) -> Vec<String> {
        let mut said = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let new = |(text, taken): (&String, &mut bool)| {
            (!std::mem::replace(taken, true)).then(|| text.clone())
        };
        said.iter_mut().filter_map(new).collect()
    }

    fn take_in(&self, metadata: &MetadataMap) {
        let texts = metadata.get_all(WARNING).iter().filter_map(|text| text.to_str().ok());
        let mut said = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        for text in texts {
            said.entry(text.to_owned()).or_default();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_warning_is_told_once() {
        let warnings = Warnings::default();
        let mut metadata = MetadataMap::new();
        metadata.insert(WARNING, "orders are held".parse().unwrap());
        warnings.take_in(&metadata);
        warnings.take_in(&metadata);
        assert_eq!(warnings.take(), ["orders are held"]);
        warnings.take_in(&metadata);
        assert!(warnings.take().is_empty());
    }
}
