//! `version`.

use everynode_proto::v1::InfoRequest;

use crate::args::VersionArgs;
use crate::context::Context;
use crate::error::Error;
use crate::out::Out;

/// Prints this program's version, then the coordinator's.
pub(crate) async fn run(args: &VersionArgs, context: &Context, out: &mut Out) -> Result<(), Error> {
    out.line(format!("Client Version: v{}", env!("CARGO_PKG_VERSION")))?;
    if args.client {
        return Ok(());
    }
    let client = context.connect().await?;
    let info = client.answer(client.cluster().info(client.request(InfoRequest {}))).await?;
    out.line(format!("Server Version: v{}", info.version.trim_start_matches('v')))
}
