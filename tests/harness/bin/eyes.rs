//! Prints what lives on this machine, as JSON: the scenarios' eyes on machines on which they do not
//! run (see `everynode_tests::seen`).

use std::io::{self, Write as _};

use everynode_tests::seen::Seen;

fn main() -> io::Result<()> {
    let seen = Seen::now().map_err(|failure| io::Error::other(failure.to_string()))?;
    writeln!(io::stdout(), "{}", serde_json::to_string(&seen)?)
}
