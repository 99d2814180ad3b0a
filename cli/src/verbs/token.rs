//! `token create`, `token list`, `token revoke`.

use everynode_proto::v1::{CreateTokenRequest, ListRequest, RevokeTokenRequest};

use crate::args::{TokenCreateArgs, TokenVerb};
use crate::connect::Client;
use crate::context::Context;
use crate::error::Error;
use crate::kinds::{Kind as _, Tokens};
use crate::out::Out;
use crate::table::Table;

/// Where the agent of a machine that runs nothing else of ours keeps its things.
const AGENT_DATA_DIR: &str = "/var/lib/everynode-agent";

/// Does what is said with tokens.
pub(crate) async fn run(verb: &TokenVerb, context: &Context, out: &mut Out) -> Result<(), Error> {
    let client = context.connect().await?;
    match verb {
        TokenVerb::Create(args) => create(args, &client, out).await,
        TokenVerb::List => list(&client, out).await,
        TokenVerb::Revoke { tokens } => {
            for token in tokens {
                let id = id_of(token);
                let request = client.request(RevokeTokenRequest { id: id.clone() });
                client.answer(client.tokens().revoke(request)).await?;
                out.line(format!("token \"{id}\" revoked"))?;
            }
            Ok(())
        }
    }
}

async fn create(args: &TokenCreateArgs, client: &Client, out: &mut Out) -> Result<(), Error> {
    if args.ttl.as_secs() == 0 {
        return Err(Error::Usage(
            "--ttl: a token that is good for no time is good for nothing".into(),
        ));
    }
    let request = CreateTokenRequest {
        ttl_seconds: args.ttl.as_secs(),
        uses: args.uses.unwrap_or(0),
        node_name: args.node_name.clone().unwrap_or_default(),
        replace: args.replace,
    };
    let created = client.answer(client.tokens().create(client.request(request))).await?;
    if !args.print_join_command {
        return out.line(created.secret);
    }
    let node_name = args.node_name.as_ref().map(|name| format!(" --node-name {name}"));
    out.line(format!(
        "everynode-agent --data-dir {AGENT_DATA_DIR} --coordinator {} --join-token {}{}",
        created.addresses.join(","),
        created.secret,
        node_name.unwrap_or_default(),
    ))
}

async fn list(client: &Client, out: &mut Out) -> Result<(), Error> {
    let tokens = Tokens::list(client, ListRequest::default()).await?.items;
    if tokens.is_empty() {
        out.note("No tokens found");
        return Ok(());
    }
    let now = crate::age::unix_now();
    let mut rows = vec![Tokens::COLUMNS.iter().map(|column| column.head.to_owned()).collect()];
    rows.extend(tokens.iter().map(|token| Tokens::row(token, now)));
    out.text(&Table::default().lay_out(&rows))
}

/// A token's id, of the id or of the whole token (whose secret need not travel again).
fn id_of(token: &str) -> String {
    let mut parts = token.split('.');
    match (parts.next(), parts.next()) {
        (Some("enj1"), Some(id)) => id.to_owned(),
        _ => token.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_whole_token_is_known_by_its_id() {
        assert_eq!(id_of("enj1.0123456789.aa.bb"), "0123456789");
        assert_eq!(id_of("0123456789"), "0123456789");
    }
}
