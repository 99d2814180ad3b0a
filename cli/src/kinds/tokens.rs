//! Join tokens, as far as they may be seen: never their secrets.

use everynode_proto::v1::{
    EventKind, ListRequest, ListTokensRequest, ObjectMeta, Token, WatchRequest,
};
use serde_json::{Map, Value};
use tonic::Streaming;

use super::manifest::{head, put};
use super::{Column, Kind, Listed, Names, column};
use crate::age::{age, rfc3339, short};
use crate::connect::Client;
use crate::error::Error;

/// The kind of tokens.
pub(crate) struct Tokens;

impl Kind for Tokens {
    type Object = Token;
    type Event = Token;

    const NAMES: Names = Names {
        kind: "Token",
        api_version: "everynode.dev/v1",
        singular: "token",
        namespaced: false,
    };
    const COLUMNS: &'static [Column] = &[
        column("ID"),
        column("TTL"),
        column("USES LEFT"),
        column("NODE"),
        column("REPLACE"),
        column("AGE"),
    ];

    fn metadata(_object: &Token) -> Option<&ObjectMeta> {
        None
    }

    fn metadata_mut(_object: &mut Token) -> Option<&mut ObjectMeta> {
        None
    }

    fn row(object: &Token, now: i64) -> Vec<String> {
        let ttl = object.expires_at.as_ref().map_or_else(
            || "<unknown>".into(),
            |at| if at.seconds <= now { "<expired>".into() } else { short(at.seconds - now) },
        );
        let node = if object.node_name.is_empty() { "<any>" } else { &object.node_name };
        vec![
            object.id.clone(),
            ttl,
            object.uses_left.map_or_else(|| "<any>".into(), |uses| uses.to_string()),
            node.into(),
            object.replace.to_string(),
            age(object.created_at.as_ref(), now),
        ]
    }

    fn manifest(object: &Token) -> Result<Value, Error> {
        let metadata = ObjectMeta {
            name: object.id.clone(),
            creation_timestamp: object.created_at,
            ..ObjectMeta::default()
        };
        let mut manifest = head(&Self::NAMES, Some(&metadata));
        let mut spec = Map::new();
        put(&mut spec, "expiresAt", object.expires_at.as_ref().map(rfc3339));
        put(&mut spec, "usesLeft", object.uses_left);
        put(&mut spec, "nodeName", object.node_name.as_str());
        put(&mut spec, "replace", object.replace);
        manifest.insert("spec".into(), Value::Object(spec));
        Ok(Value::Object(manifest))
    }

    async fn get(client: &Client, _namespace: &str, name: &str) -> Result<Token, Error> {
        let tokens = Self::list(client, ListRequest::default()).await?.items;
        let found = tokens.into_iter().find(|token| token.id == name);
        found.ok_or_else(|| super::not_found("tokens", name))
    }

    async fn list(client: &Client, _request: ListRequest) -> Result<Listed<Token>, Error> {
        let request = client.request(ListTokensRequest {});
        let list = client.answer(client.tokens().list(request)).await?;
        Ok(Listed { resource_version: String::new(), items: list.items })
    }

    async fn watch(_client: &Client, _request: WatchRequest) -> Result<Streaming<Token>, Error> {
        Err(Error::Usage("tokens can't be watched".into()))
    }

    fn change(event: Token) -> (EventKind, Option<Token>) {
        (EventKind::Modified, Some(event))
    }
}
