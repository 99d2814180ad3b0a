//! What people are shown of this machine, and what it is told apart by.

mod address;
mod measure;

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use everynode_model::{Labels, NodeName, go_arch};

pub use address::Address;
pub use measure::readings;

/// How often it is looked at what changes: as the kubelet measures, and as often as a probe is tried.
const EVERY: Duration = Duration::from_secs(10);

/// A machine, as far as a coordinator wants to know it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Machine {
    /// `/etc/machine-id`; empty where there is none.
    pub machine_id: String,
    /// Another one after every boot.
    pub boot_id: String,
    /// Its name, as it calls itself.
    pub hostname: String,
    /// For showing: os, arch, kernel, addresses; and what there is of it, by Kubernetes' names: cpu,
    /// memory, ephemeral-storage, pids, hugepages-SIZE.
    pub facts: BTreeMap<String, String>,
}

/// From where ids are read; a test puts several machines on one.
#[derive(Clone, Debug)]
pub struct IdFiles {
    /// Usually `/etc/machine-id`.
    pub machine: PathBuf,
    /// Usually `/proc/sys/kernel/random/boot_id`.
    pub boot: PathBuf,
}

impl Default for IdFiles {
    fn default() -> Self {
        Self { machine: "/etc/machine-id".into(), boot: "/proc/sys/kernel/random/boot_id".into() }
    }
}

impl Machine {
    /// Looks at this machine, with the disk on which the agent keeps its own. What can't be found out
    /// is left out.
    pub fn look(ids: &IdFiles, disk: Option<&Path>) -> Self {
        let id = |path| fs::read_to_string(path).unwrap_or_default().trim().to_owned();
        let system = rustix::system::uname();
        let text = |part: &std::ffi::CStr| part.to_string_lossy().into_owned();
        let cpus = std::thread::available_parallelism().map_or(1, usize::from);
        let mut facts = BTreeMap::from([
            ("os".to_owned(), std::env::consts::OS.to_owned()),
            ("arch".to_owned(), go_arch().to_owned()),
            ("kernel".to_owned(), text(system.release())),
            ("hostname".to_owned(), text(system.nodename())),
            ("cpu".to_owned(), cpus.to_string()),
        ]);
        let mut put = |name: &str, value: Option<String>| {
            facts.extend(value.map(|value| (name.to_owned(), value)));
        };
        put("memory", read("/proc/meminfo").and_then(|text| memory(&text)));
        put("osImage", read("/etc/os-release").and_then(|text| os_image(&text)));
        put("addresses", Some(addresses().join(",")).filter(|list| !list.is_empty()));
        facts.extend(measure::capacity(disk));
        Self {
            machine_id: id(&ids.machine),
            boot_id: id(&ids.boot),
            hostname: text(system.nodename()),
            facts,
        }
    }

    /// Its first address.
    pub fn address(&self) -> Option<&str> {
        self.facts.get("addresses")?.split(',').next()
    }

    /// The labels that every node has in Kubernetes. As with the kubelet, a name that was given to
    /// the node is its hostname too: manifests choose nodes by it.
    pub fn labels(&self, node_name: &NodeName) -> Labels {
        Labels::from_iter([
            ("kubernetes.io/hostname".to_owned(), node_name.to_string()),
            ("kubernetes.io/os".to_owned(), std::env::consts::OS.to_owned()),
            ("kubernetes.io/arch".to_owned(), go_arch().to_owned()),
        ])
    }
}

/// This machine's addresses, as far as they lead somewhere.
fn addresses() -> Vec<String> {
    let v4 = read("/proc/net/fib_trie").map(|text| local_v4(&text)).unwrap_or_default();
    let v6 = read("/proc/net/if_inet6").map(|text| global_v6(&text)).unwrap_or_default();
    v4.into_iter().chain(v6).take(MAX_ADDRESSES).collect()
}

/// More than a person reads; hosts of many containers have hundreds.
const MAX_ADDRESSES: usize = 16;

fn read(path: &str) -> Option<String> {
    fs::read_to_string(path).ok()
}

/// As a quantity of Kubernetes: `16384Ki`.
fn memory(meminfo: &str) -> Option<String> {
    measure::kib(meminfo, "MemTotal:").map(|kib| format!("{kib}Ki"))
}

fn os_image(os_release: &str) -> Option<String> {
    let line = os_release.lines().find_map(|line| line.strip_prefix("PRETTY_NAME="))?;
    Some(line.trim_matches('"').to_owned())
}

/// The machine's own IPv4 addresses: in the routing table each stands before a line that says so.
fn local_v4(fib_trie: &str) -> Vec<String> {
    let mut found: Vec<String> = Vec::new();
    let mut address = "";
    for line in fib_trie.lines().map(str::trim) {
        if let Some(next) = line.strip_prefix("|-- ") {
            address = next;
        } else if line == "/32 host LOCAL"
            && !address.starts_with("127.")
            && !found.iter().any(|known| known == address)
        {
            found.push(address.to_owned());
        }
    }
    found
}

/// The IPv6 addresses of global scope (00), temporary ones (flag 01) left out.
fn global_v6(if_inet6: &str) -> Vec<String> {
    let address = |line: &str| {
        let words: Vec<&str> = line.split_whitespace().collect();
        let [digits, _, _, "00", flags, _] = words.as_slice() else { return None };
        let temporary = u8::from_str_radix(flags, 16).ok()? & 1 != 0;
        let bits = u128::from_str_radix(digits, 16).ok()?;
        (!temporary).then(|| std::net::Ipv6Addr::from_bits(bits).to_string())
    };
    if_inet6.lines().filter_map(address).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernels_tables_are_read() {
        assert_eq!(memory("MemTotal:       16 kB\nMemFree: 1 kB"), Some("16Ki".into()));
        assert_eq!(os_image("ID=x\nPRETTY_NAME=\"Some Linux 1\"\n"), Some("Some Linux 1".into()));
        let trie = "Local:\n  |-- 10.0.0.5\n     /32 host LOCAL\n  |-- 10.0.0.255\n     \
                    /32 link BROADCAST\n  |-- 127.0.0.1\n     /32 host LOCAL\nMain:\n  \
                    |-- 10.0.0.5\n     /32 host LOCAL\n";
        assert_eq!(local_v4(trie), ["10.0.0.5"]);
        let table = "fe800000000000000000000000000001 02 40 20 80 eth0\n\
                     20010db8000000000000000000000005 02 40 00 80 eth0\n\
                     20010db8000000000000000000000006 02 40 00 01 eth0\n\
                     00000000000000000000000000000001 01 80 10 80 lo\n";
        assert_eq!(global_v6(table), ["2001:db8::5"]);
    }

    #[test]
    fn this_machine_has_the_facts_that_every_machine_has() {
        let machine = Machine::look(&IdFiles::default(), None);
        assert!(
            ["os", "arch", "kernel", "cpu", "memory"]
                .iter()
                .all(|fact| machine.facts.contains_key(*fact))
        );
        assert_eq!(machine.labels(&NodeName::new("n").unwrap()).len(), 3);
    }
}
