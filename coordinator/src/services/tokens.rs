//! The service `Tokens`. A token's secret is in the answer to `Create` and nowhere else.

use std::time::Duration;

use everynode_coordinator_core::{Command, Outcome, TokenRecord};
use everynode_model::{Digest, NodeName, WallTime};
use everynode_proto::v1;
use everynode_proto::v1::tokens_server::Tokens;
use everynode_transport::JoinToken;
use tonic::{Request, Response, Status};

use super::convert::timestamp;
use super::filter::given;
use super::{Api, list, no_entropy, unexpected};
use crate::status;

/// How long a token lasts where nothing is said: a working day and the night after it.
const DEFAULT_TTL: Duration = Duration::from_secs(24 * 60 * 60);

/// How long a token may last: who needs it longer makes another in time.
const MAX_TTL: Duration = Duration::from_secs(30 * 24 * 60 * 60);

#[tonic::async_trait]
impl Tokens for Api {
    async fn create(
        &self,
        request: Request<v1::CreateTokenRequest>,
    ) -> Result<Response<v1::CreateTokenResponse>, Status> {
        let token = self.draw()?;
        let record = record(&token, request.get_ref(), self.parts.clock.now().wall)?;
        match self.command(Command::CreateToken(record), false).await? {
            Outcome::Token(record) => Ok(Response::new(v1::CreateTokenResponse {
                token: Some(message(&record)),
                secret: token.to_string(),
                addresses: self.parts.addresses.clone(),
            })),
            other => Err(unexpected(&other)),
        }
    }

    async fn list(
        &self,
        _request: Request<v1::ListTokensRequest>,
    ) -> Result<Response<v1::TokenList>, Status> {
        let tokens = self.read(|fleet, _| fleet.tokens().map(message).collect()).await?;
        list(v1::TokenList { items: tokens })
    }

    async fn revoke(
        &self,
        request: Request<v1::RevokeTokenRequest>,
    ) -> Result<Response<v1::Token>, Status> {
        let id = request.into_inner().id;
        match self.command(Command::RevokeToken { id }, false).await? {
            Outcome::Token(record) => Ok(Response::new(message(&record))),
            other => Err(unexpected(&other)),
        }
    }
}

impl Api {
    fn draw(&self) -> Result<JoinToken, Status> {
        let entropy = &self.parts.entropy;
        let id = Digest::from_bytes(entropy.bytes().map_err(no_entropy)?);
        let secret = Digest::from_bytes(entropy.bytes().map_err(no_entropy)?);
        Ok(JoinToken {
            id: id.short(),
            secret: secret.to_string(),
            authority: self.parts.pki.digest(),
        })
    }
}

fn record(
    token: &JoinToken,
    request: &v1::CreateTokenRequest,
    now: WallTime,
) -> Result<TokenRecord, Status> {
    let ttl = match request.ttl_seconds {
        0 => DEFAULT_TTL,
        seconds => Duration::from_secs(seconds),
    };
    if ttl > MAX_TTL {
        return Err(status::invalid("ttl_seconds", "a token lasts 30 days at most"));
    }
    let node_name = given(&request.node_name).map(|name| NodeName::new(&name)).transpose();
    let node_name = node_name.map_err(|error| status::invalid("node_name", error))?;
    if request.replace && node_name.is_none() {
        return Err(status::invalid("replace", "wants node_name: which node is to be replaced"));
    }
    // At most 30 days, so it fits.
    let millis = i64::try_from(ttl.as_millis()).unwrap_or(i64::MAX);
    Ok(TokenRecord {
        id: token.id.clone(),
        secret: Digest::of(token.secret.as_bytes()),
        created_at: now,
        expires_at: WallTime::from_unix_millis(now.unix_millis.saturating_add(millis)),
        uses_left: (request.uses > 0).then_some(request.uses),
        node_name,
        replace: request.replace,
    })
}

fn message(record: &TokenRecord) -> v1::Token {
    v1::Token {
        id: record.id.clone(),
        created_at: Some(timestamp(record.created_at)),
        expires_at: Some(timestamp(record.expires_at)),
        uses_left: record.uses_left,
        node_name: record.node_name.as_ref().map_or_else(String::new, NodeName::to_string),
        replace: record.replace,
    }
}
