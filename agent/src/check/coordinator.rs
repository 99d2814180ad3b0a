//! The coordinator: whether it is in reach, and is the one that it ought to be.

use everynode_model::Digest;
use everynode_transport::{Dial as _, Options, TcpDial, Trust, connect};

use super::{CheckArgs, CheckError, Identity, Line};
use crate::config::TokenSource;

const NAME: &str = "coordinator";

/// What there is to go by: whom to ask, and by what to know it.
struct Whom {
    addresses: Vec<String>,
    trust: Option<Trust>,
    /// Whether somebody has asked for it: else a machine that has joined does without.
    wanted: bool,
}

pub(super) async fn line(
    args: &CheckArgs,
    identity: Option<&Identity>,
) -> Result<Line, CheckError> {
    let token = args.join_token_file.clone().map(TokenSource::File);
    let authority: Option<Digest> =
        token.map(|token| token.token()).transpose()?.map(|token| token.authority);
    let known = identity.map(|identity| identity.addresses.clone()).unwrap_or_default();
    let whom = Whom {
        wanted: !args.coordinator.is_empty(),
        addresses: if args.coordinator.is_empty() { known } else { args.coordinator.clone() },
        trust: authority.map(Trust::Digest).or_else(|| identity.map(Identity::trust)),
    };
    Ok(ask(&whom, identity).await)
}

async fn ask(whom: &Whom, identity: Option<&Identity>) -> Line {
    let Whom { addresses, trust, wanted } = whom;
    if addresses.is_empty() {
        return Line::pass(NAME, "not asked: none is known (--coordinator HOST:PORT)");
    }
    let Some(trust) = trust else { return reach(addresses).await };
    let client = identity.map(|identity| &identity.client);
    match connect(&TcpDial, addresses, trust, client, Options::default()).await {
        Ok(connected) => Line::pass(NAME, format!("{} answers and is trusted", connected.address)),
        Err(error) if *wanted || error.is_not_trusted() => Line::fail(NAME, error.to_string()),
        Err(error) => Line::warn(NAME, format!("{error}; pods run on without it")),
    }
}

/// Whether anybody is there at all; who it is, only a token or an identity can tell.
async fn reach(addresses: &[String]) -> Line {
    let mut failed = Vec::new();
    for address in addresses {
        let within = Options::default().connect_timeout;
        match tokio::time::timeout(within, TcpDial.dial(address)).await {
            Ok(Ok(_)) => {
                let line = format!(
                    "{address} is in reach; whether it is the right one was not tried \
                     (--join-token-file FILE)"
                );
                return Line::pass(NAME, line);
            }
            Ok(Err(error)) => failed.push(format!("{address}: {error}")),
            Err(_) => failed.push(format!("{address} does not answer")),
        }
    }
    let detail = failed.join("; ");
    Line::fail(NAME, format!("{detail}: is it running there, and does a firewall let us through?"))
}

#[cfg(test)]
mod tests {
    use super::super::Verdict;
    use super::*;

    fn args(coordinator: &[&str]) -> CheckArgs {
        CheckArgs {
            coordinator: coordinator.iter().map(|&address| address.to_owned()).collect(),
            join_token_file: None,
            output: None,
        }
    }

    #[tokio::test]
    async fn one_that_is_not_there_fails_and_none_is_not_asked() {
        assert_eq!(line(&args(&[]), None).await.unwrap().verdict, Verdict::Pass);
        // The discard port: nothing listens.
        let refused = line(&args(&["127.0.0.1:9"]), None).await.unwrap();
        assert_eq!(refused.verdict, Verdict::Fail);
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        assert_eq!(line(&args(&[&address]), None).await.unwrap().verdict, Verdict::Pass);
    }
}
