//! A demo's coordinator and agents, and how to speak to them.

use std::ffi::OsString;
use std::fs;
use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use everynode_manifest::read;
use everynode_proto::convert::json::to_struct;
use everynode_proto::v1::{
    CreateTokenRequest, DaemonSet, DeleteNodeRequest, ListRequest, Node, PutDaemonSetRequest,
    WhyLine, WhyRequest,
};
use tokio::time::Instant;

use super::place::Place;
use super::processes::{Process, free_port};
use crate::config::Config;
use crate::connect::{Client, Warnings};
use crate::error::Error;
use crate::inner::{AGENT, COORDINATOR};
use crate::kinds::{Kind as _, Nodes, metadata_from};

/// What this machine's own agent and coordinator are told is nothing to the demo's.
const NO_CONFIG: &str = "/dev/null";
/// How long a coordinator may take to make its CA and its store and to listen: 20 times what a
/// slow disk needs.
const COORDINATOR_STARTS: Duration = Duration::from_secs(20);
/// How long one request may take.
const REQUEST: Duration = Duration::from_secs(10);
/// A token serves one machine, at once.
const TOKEN_SECONDS: u64 = 300;

const EXAMPLE: &str = include_str!("example.yaml");

/// Everything that a demo has started.
pub(super) struct Fleet {
    pub(super) place: Place,
    pub(super) coordinator: Option<Process>,
    pub(super) nodes: Vec<Machine>,
    address: String,
    client: Option<Client>,
}

/// One node of a demo.
pub(super) struct Machine {
    pub(super) name: String,
    /// Its root of cgroups, below the mount.
    pub(super) cgroups: PathBuf,
    pub(super) agent: Option<Process>,
    /// Whether it was deregistered.
    pub(super) removed: bool,
}

impl Fleet {
    /// A fleet that has nothing yet.
    pub(super) fn new(place: Place) -> Self {
        let address = String::new();
        Self { place, coordinator: None, nodes: Vec::new(), address, client: None }
    }

    /// Where the coordinator listens.
    pub(super) fn address(&self) -> &str {
        &self.address
    }

    /// The configuration with which people reach the coordinator.
    pub(super) fn admin_conf(&self) -> PathBuf {
        self.place.dir.join("coordinator/admin.conf")
    }

    /// Starts the coordinator and waits until it answers.
    pub(super) async fn start_coordinator(&mut self) -> Result<(), Error> {
        let port = free_port().map_err(|error| Error::Failed(format!("no free port: {error}")))?;
        self.address = format!("127.0.0.1:{port}");
        let arguments: [OsString; 7] = [
            COORDINATOR.into(),
            "--config".into(),
            NO_CONFIG.into(),
            "--data-dir".into(),
            self.place.dir.join("coordinator").into(),
            "--listen".into(),
            self.address.clone().into(),
        ];
        let log = self.place.dir.join("coordinator.log");
        let coordinator = self.coordinator.insert(Process::start(&arguments, &log)?);
        let end = Instant::now() + COORDINATOR_STARTS;
        let admin_conf = self.place.dir.join("coordinator/admin.conf");
        loop {
            if admin_conf.exists() {
                let connected = match Config::load(Some(&admin_conf)) {
                    Ok(config) => Client::connect(&config, REQUEST, Warnings::default()).await,
                    Err(error) => Err(error.into()),
                };
                if let Ok(client) = connected {
                    self.client = Some(client);
                    return Ok(());
                }
            }
            if !coordinator.runs() || Instant::now() >= end {
                let words = coordinator.last_words();
                return Err(Error::Failed(format!("the coordinator does not start:\n{words}")));
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    /// Starts the agent of a new machine, which joins with a token of its own.
    pub(super) async fn add_node(&mut self) -> Result<String, Error> {
        let name = format!("node-{}", self.nodes.len() + 1);
        let request = CreateTokenRequest {
            ttl_seconds: TOKEN_SECONDS,
            uses: 1,
            node_name: name.clone(),
            replace: false,
        };
        let client = self.client()?;
        let token = client.answer(client.tokens().create(client.request(request))).await?.secret;
        let file = self.place.dir.join(format!("{name}.token"));
        write_secret(&file, &token)?;
        // Each is to be a machine of its own; equal machine ids would be warned about.
        write_secret(&self.place.dir.join(format!("{name}.machine-id")), &machine_id())?;
        let cgroups = self.place.node_cgroups(&name);
        self.nodes.push(Machine { name: name.clone(), cgroups, agent: None, removed: false });
        self.start_agent(self.nodes.len() - 1)?;
        Ok(name)
    }

    /// Starts a node's agent, for the first time or again.
    pub(super) fn start_agent(&mut self, index: usize) -> Result<(), Error> {
        let address = self.address.clone();
        let Some(machine) = self.nodes.get_mut(index) else { return Ok(()) };
        let name = &machine.name;
        let dir = &self.place.dir;
        let arguments: [OsString; 15] = [
            AGENT.into(),
            "--config".into(),
            NO_CONFIG.into(),
            "--data-dir".into(),
            dir.join(name).into(),
            "--cgroup-root".into(),
            self.place.node_cgroup_root(name).into(),
            "--coordinator".into(),
            address.into(),
            "--join-token-file".into(),
            dir.join(format!("{name}.token")).into(),
            "--machine-id-file".into(),
            dir.join(format!("{name}.machine-id")).into(),
            "--node-name".into(),
            name.into(),
        ];
        machine.agent = Some(Process::start(&arguments, &dir.join(format!("{name}.log")))?);
        Ok(())
    }

    /// Creates the example, as `everynode create -f` would, and leaves the file to look at.
    pub(super) async fn create_example(&self) -> Result<(), Error> {
        let text = EXAMPLE.replace("MARK", &self.place.mark);
        let file = self.place.dir.join("daemon-set-definition.yaml");
        let name = file.display().to_string();
        fs::write(&file, &text).map_err(|source| Error::File { path: name.clone(), source })?;
        let documents =
            read(&name, text.as_bytes()).map_err(|error| Error::Manifest(error.to_string()))?;
        for document in documents {
            let set = DaemonSet {
                metadata: Some(metadata_from(&document.value)),
                spec: document.value["spec"].as_object().map(to_struct),
                ..DaemonSet::default()
            };
            let request = PutDaemonSetRequest {
                daemon_set: Some(set),
                dry_run: false,
                api_version: document.api_version.clone(),
                ..PutDaemonSetRequest::default()
            };
            let client = self.client()?;
            client.answer(client.daemon_sets().create(client.request(request))).await?;
        }
        Ok(())
    }

    /// The nodes as the coordinator sees them.
    pub(super) async fn registered(&self) -> Result<Vec<Node>, Error> {
        Ok(Nodes::list(self.client()?, ListRequest::default()).await?.items)
    }

    /// Why nodes don't run what they ought to, one line each.
    pub(super) async fn reasons(&self) -> Vec<String> {
        let lines = async {
            let client = self.client()?;
            let request = client.request(WhyRequest::default());
            Ok::<_, Error>(client.answer(client.cluster().why(request)).await?.lines)
        };
        let line = |line: WhyLine| {
            let reason = line.reason.unwrap_or_default();
            format!("{}: {}: {}", line.node, reason.code, reason.message)
        };
        match lines.await {
            Ok(lines) => lines.into_iter().filter(|line| !line.fine).map(line).collect(),
            Err(error) => vec![error.to_string()],
        }
    }

    /// Deregisters a node.
    pub(super) async fn remove_node(&mut self, index: usize) -> Result<(), Error> {
        let Some(machine) = self.nodes.get(index) else { return Ok(()) };
        let request = DeleteNodeRequest { name: machine.name.clone(), ..Default::default() };
        let client = self.client()?;
        client.answer(client.nodes().delete(client.request(request))).await?;
        if let Some(machine) = self.nodes.get_mut(index) {
            machine.removed = true;
        }
        Ok(())
    }

    fn client(&self) -> Result<&Client, Error> {
        self.client.as_ref().ok_or_else(|| Error::Failed("the coordinator does not run".into()))
    }
}

/// A new machine id, as in /etc/machine-id: 32 hexadecimal digits.
fn machine_id() -> String {
    format!("{}\n", uuid::Uuid::new_v4().simple())
}

fn write_secret(path: &Path, text: &str) -> Result<(), Error> {
    let mut options = fs::File::options();
    options.write(true).create(true).truncate(true).mode(0o600);
    let written = options.open(path).and_then(|mut file| file.write_all(text.as_bytes()));
    written.map_err(|source| Error::File { path: path.display().to_string(), source })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_example_is_admitted_without_a_warning() {
        let text = EXAMPLE.replace("MARK", "everynode-demo-1");
        let documents = read("example.yaml", text.as_bytes()).unwrap();
        let admitted = everynode_manifest::admit(&documents[0].value).unwrap();
        assert_eq!(admitted.warnings, []);
    }
}
