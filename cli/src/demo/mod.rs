use crate::{args::DemoArgs, error::Error, out::Out};
pub(crate) async fn run(_args: &DemoArgs, _out: &mut Out) -> Result<(), Error> { Ok(()) }
