//! A network: a switch in a namespace of its own, and machines plugged into it by veth pairs.
//!
//! The host's own namespace is not touched, so its addresses and packet filters are of no concern.
//! `ip netns exec` is never used: it puts a fresh `/sys` over the one with the cgroups.

use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use rustix::process::Signal;

use crate::failure::{Context as _, Outcome};
use crate::said::Said;
use crate::{ensure, proc, wait};

/// Where iproute2 keeps namespaces that have names.
pub const NAMESPACES: &str = "/run/netns";

const BRIDGE: &str = "br0";

/// A switch, to which machines are plugged.
#[derive(Debug)]
pub struct Switch {
    namespace: Namespace,
}

/// A network namespace with a name. Dropped, it is removed, with every process in it.
#[derive(Debug)]
pub struct Namespace {
    path: PathBuf,
    inode: u64,
}

/// Which addresses a machine has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Family {
    /// Both.
    Dual,
    /// Only IPv6.
    V6Only,
}

/// One machine's place in the network: the last part of its addresses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Address {
    /// 1 to 254.
    pub number: u8,
    /// Which there are.
    pub family: Family,
}

impl Switch {
    /// A switch with nothing plugged in.
    ///
    /// # Errors
    /// When the kernel won't.
    pub fn new(fleet: &str) -> Outcome<Self> {
        let namespace = Namespace::new(&format!("{fleet}-switch"))?;
        namespace.ip(&["link", "add", BRIDGE, "type", "bridge"])?;
        namespace.ip(&["link", "set", BRIDGE, "up"])?;
        Ok(Self { namespace })
    }

    /// A new namespace `fleet-name`, plugged in.
    ///
    /// # Errors
    /// When the kernel won't.
    pub fn plug(&self, fleet: &str, name: &str, address: Address) -> Outcome<Namespace> {
        let namespace = Namespace::new(&format!("{fleet}-{name}"))?;
        let (port, peer) = (port(address), format!("{fleet}-{name}"));
        let cable = ["link", "add", &port, "type", "veth", "peer", "name", "eth0", "netns", &peer];
        self.namespace.ip(&cable)?;
        namespace.ip(&["link", "set", "lo", "up"])?;
        namespace.ip(&["link", "set", "eth0", "up"])?;
        // Without a test for duplicates, which would hold the address back for a second.
        let v6 = format!("{}/64", address.v6());
        namespace.ip(&["-6", "addr", "add", &v6, "dev", "eth0", "nodad"])?;
        if address.family == Family::Dual {
            namespace.ip(&["addr", "add", &format!("{}/24", address.v4()), "dev", "eth0"])?;
        }
        self.heal(address)?;
        Ok(namespace)
    }

    /// Takes a machine's port out of the bridge: from now on, silence in both directions.
    ///
    /// # Errors
    /// When the kernel won't.
    pub fn cut(&self, address: Address) -> Outcome {
        self.namespace.ip(&["link", "set", &port(address), "nomaster"])
    }

    /// Puts it in again.
    ///
    /// # Errors
    /// When the kernel won't.
    pub fn heal(&self, address: Address) -> Outcome {
        self.namespace.ip(&["link", "set", &port(address), "master", BRIDGE, "up"])
    }
}

impl Address {
    /// Its IPv4 address.
    pub fn v4(self) -> String {
        format!("10.231.0.{}", self.number)
    }

    /// Its IPv6 address.
    pub fn v6(self) -> String {
        format!("fd00:231::{:x}", self.number)
    }

    /// One under which it is reached, as it stands in a URL.
    pub fn host(self) -> String {
        match self.family {
            Family::Dual => self.v4(),
            Family::V6Only => format!("[{}]", self.v6()),
        }
    }
}

impl Namespace {
    fn new(name: &str) -> Outcome<Self> {
        let mut command = Command::new("ip");
        command.args(["netns", "add", name]);
        Said::by(command)?.ok()?;
        let path = Path::new(NAMESPACES).join(name);
        let inode = fs::metadata(&path).context(path.display())?.ino();
        Ok(Self { path, inode })
    }

    /// Its inode, by which processes in it are known.
    pub fn inode(&self) -> u64 {
        self.inode
    }

    /// A command in it, without any of this process' environment but `PATH`.
    pub fn command(&self, program: impl AsRef<std::ffi::OsStr>) -> Command {
        let mut command = Command::new("nsenter");
        command.arg(format!("--net={}", self.path.display())).arg("--").arg(program);
        command.env_clear().env("PATH", std::env::var_os("PATH").unwrap_or_default());
        command
    }

    fn ip(&self, arguments: &[&str]) -> Outcome {
        let mut command = self.command("ip");
        command.args(arguments);
        Said::by(command)?.ok().map(drop)
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        // What can't be removed now is removed by the next run.
        let _ = remove(&self.path);
    }
}

/// Kills every process in a namespace and removes it.
///
/// # Errors
/// When something in it can't be killed.
pub fn remove(path: &Path) -> Outcome {
    let inode = fs::metadata(path).context(path.display())?.ino();
    let own = proc::Process::of(std::process::id()).and_then(|process| process.network());
    ensure!(own != Some(inode), "{} is this process' own namespace", path.display());
    // A name whose namespace was not mounted on it is a plain file, and no process is in that.
    wait::soon("every process of the namespace is dead", || {
        let left = proc::in_network(inode);
        for process in &left {
            let _ = proc::signal(process.pid, Signal::KILL);
        }
        ensure!(left.is_empty(), "{left:?}");
        Ok(())
    })?;
    let mut command = Command::new("ip");
    command.args(["netns", "del"]).arg(path.file_name().unwrap_or_default());
    Said::by(command)?.ok().map(drop)
}

fn port(address: Address) -> String {
    format!("port{}", address.number)
}
