//! A data directory of a coordinator, and the program run on it.

use std::fs;
use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};

use everynode_coordinator::records;
use everynode_coordinator::store::{Held, look};
use everynode_coordinator_core::{NodeRecord, NodeStanding, Record, Write};
use everynode_model::{Digest, NodeName, NodeUid, WallTime};
use everynode_store::sqlite::Options;
use everynode_store::{SqliteStore, Store as _, Txn};
use tempfile::TempDir;
use uuid::Uuid;

pub const PROGRAM: &str = env!("CARGO_BIN_EXE_everynode-coordinator");

/// A data directory, removed at the end.
pub struct Place {
    root: TempDir,
}

impl Place {
    /// Where nothing was ever served.
    pub fn new() -> Self {
        Self { root: tempfile::tempdir().unwrap() }
    }

    /// Where a cluster was founded, `nodes` machines joined, and the coordinator was stopped.
    pub fn with_nodes(nodes: u128) -> Self {
        let place = Self::new();
        place.serve().stop();
        place.join(1..=nodes);
        place
    }

    pub fn data(&self) -> PathBuf {
        self.root.path().join("data")
    }

    /// A file in the data directory.
    pub fn file(&self, name: &str) -> PathBuf {
        self.data().join(name)
    }

    /// A file beside the data directory.
    pub fn outside(&self, name: &str) -> PathBuf {
        self.root.path().join(name)
    }

    pub fn store(&self) -> PathBuf {
        self.file("store.db")
    }

    /// What the store holds, if it is sound.
    pub fn held(&self) -> Held {
        look(&self.store()).unwrap()
    }

    /// Stores nodes, as if they had joined.
    pub fn join(&self, nodes: impl Iterator<Item = u128>) {
        let store = SqliteStore::open(self.store(), Options::default()).unwrap();
        let runtime = tokio::runtime::Runtime::new().unwrap();
        for number in nodes {
            let mut txn = Txn::new();
            txn.ops.push(records::encode(&Write::put(Record::Node(node(number)))));
            runtime.block_on(store.txn(txn)).unwrap();
        }
    }

    pub fn command(&self, words: &[&str]) -> Command {
        let mut command = Command::new(PROGRAM);
        command.args(words).arg("--data-dir").arg(self.data());
        command
    }

    /// Runs the program to its end.
    pub fn run(&self, words: &[&str]) -> Output {
        self.command(words).stdin(Stdio::null()).output().unwrap()
    }

    /// What it prints, of a run that does what it is told.
    pub fn ok(&self, words: &[&str]) -> String {
        let output = self.run(words);
        assert!(output.status.success(), "{words:?}: {output:?}");
        String::from_utf8(output.stdout).unwrap()
    }

    /// The one line of a run that ends with 1, with all these words in it.
    pub fn refused(&self, words: &[&str], says: &[&str]) -> String {
        let output = self.run(words);
        let text = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(1), "{words:?}: {text}");
        let lines: Vec<&str> = text.lines().filter(|line| !line.contains(" INFO ")).collect();
        assert_eq!(lines.len(), 1, "{words:?}: {text}");
        for word in says {
            assert!(lines[0].contains(word), "{words:?}: {word:?} is not in {text}");
        }
        text
    }

    /// What `store backup` makes outside.
    pub fn backup(&self, name: &str) -> String {
        let file = self.outside(name).display().to_string();
        self.ok(&["store", "backup", &file]);
        file
    }

    pub const SERVE: [&str; 2] = ["--listen", "127.0.0.1:0"];

    /// Starts a coordinator, and returns when it serves.
    pub fn serve(&self) -> Serving {
        let mut child = self.command(&Self::SERVE).stderr(Stdio::piped()).spawn().unwrap();
        let mut said = Vec::new();
        let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
        while let Some(Ok(line)) = lines.next() {
            let ready = line.contains("ready: ");
            said.push(line);
            if ready {
                return Serving { child, said, _lines: Box::new(lines) };
            }
        }
        panic!("it does not serve: {said:?}, {:?}", child.wait());
    }

    /// A copy of the whole data directory, as it is now.
    pub fn snapshot(&self) -> Vec<(String, Vec<u8>)> {
        let mut files: Vec<_> = fs::read_dir(self.data())
            .unwrap()
            .map(|entry| entry.unwrap())
            .map(|entry| {
                let name = entry.file_name().into_string().unwrap();
                (name, fs::read(entry.path()).unwrap())
            })
            .collect();
        files.sort();
        files
    }

    /// Sees that the data directory is as it was.
    pub fn is_as_it_was(&self, before: &[(String, Vec<u8>)]) {
        let now = self.snapshot();
        let names = |files: &[(String, Vec<u8>)]| -> Vec<String> {
            files.iter().map(|(name, _)| name.clone()).collect()
        };
        assert_eq!(names(&now), names(before));
        for (now, before) in now.iter().zip(before) {
            assert!(now == before, "{} was changed", before.0);
        }
    }

    /// Puts the data directory back as it was.
    pub fn put_back(&self, files: &[(String, Vec<u8>)]) {
        let _not_there = fs::remove_dir_all(self.data());
        fs::create_dir(self.data()).unwrap();
        for (name, bytes) in files {
            fs::write(self.file(name), bytes).unwrap();
        }
    }
}

/// A coordinator that serves.
pub struct Serving {
    child: Child,
    /// What it said until it was ready.
    pub said: Vec<String>,
    /// Kept open, so that it can go on to speak.
    _lines: Box<dyn Iterator<Item = std::io::Result<String>>>,
}

impl Serving {
    pub fn stop(mut self) {
        let pid = i32::try_from(self.child.id()).ok().and_then(rustix::process::Pid::from_raw);
        rustix::process::kill_process(pid.unwrap(), rustix::process::Signal::TERM).unwrap();
        assert!(self.child.wait().unwrap().success());
    }

    pub fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

/// The names in a directory that begin like this, in order.
pub fn names(directory: &Path, prefix: &str) -> Vec<String> {
    let entries = fs::read_dir(directory).unwrap();
    let mut names: Vec<String> =
        entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.retain(|name| name.starts_with(prefix));
    names.sort();
    names
}

fn node(number: u128) -> NodeRecord {
    NodeRecord {
        uid: NodeUid::new(Uuid::from_u128(number)),
        name: NodeName::new(&format!("n{number}")).unwrap(),
        standing: NodeStanding::Active,
        labels: [("about".to_owned(), "x".repeat(200))].into(),
        taints: Vec::new(),
        stood: std::collections::BTreeMap::new(),
        joined_labels: Default::default(),
        public_key: Digest::of(&number.to_be_bytes()),
        machine_id: format!("m{number}"),
        token_id: "t".into(),
        joined_at: WallTime::default(),
        unschedulable: false,
        order: everynode_coordinator_core::NodeOrder::None,
        granted: Default::default(),
        resource_version: 1,
    }
}
