//! The files for `/etc/everynode`, all of whose lines are comments until somebody wants one.

use std::path::PathBuf;

use clap::{Command, CommandFactory as _};

const FILES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../packaging/etc");

/// Each line that is offered is one that its program takes: a key of its own, and a value.
#[test]
fn what_they_offer_is_taken() {
    offered("agent.yaml", &everynode_agent::command_line());
    offered("coordinator.yaml", &everynode_coordinator::config::Cli::command());
}

fn offered(file: &str, program: &Command) {
    let text = std::fs::read_to_string(PathBuf::from(FILES).join(file)).unwrap();
    let offers = text.lines().filter_map(|line| line.strip_prefix('#'));
    let offers: Vec<&str> = offers.filter(|line| !line.starts_with(' ')).collect();
    assert!(offers.len() > 4, "{file} offers {offers:?}");
    let read = everynode_settings::lines(&offers.join("\n"), program);
    assert_eq!(read.map_err(|error| error.to_string()).unwrap().len(), offers.len(), "{file}");
    let read = everynode_settings::lines(&text, program).map(|words| words.len());
    assert_eq!(read.map_err(|error| error.to_string()), Ok(0), "{file} says something as it is");
}
