//! Who holds a port of this machine: evidence for people when a pod that declares it has failed.
//!
//! What cannot be found out is left out, and the work is bounded: sockets by the kernel's tables, their
//! owners by the descriptors of processes, as `ss -p` does it.

use std::fs;
use std::net::IpAddr;
use std::path::Path;

use everynode_agent_core::HostPort;
use everynode_model::PodUid;
use everynode_runtime::place_of;

/// The most processes and descriptors that are looked at: more than a busy host has.
const MAX_PROCESSES: usize = 20_000;
const MAX_DESCRIPTORS: usize = 200_000;

/// Who holds one of these ports, in a line; nobody where it is the pod itself, or nobody is found.
pub(crate) fn holder(ports: &[HostPort], pod: PodUid) -> Option<String> {
    ports.iter().find_map(|port| {
        let sockets = sockets(port);
        let pid = if sockets.is_empty() { None } else { owner(&sockets, pod) }?;
        Some(format!("port {port} is held by {}", describe(pid)))
    })
}

/// The inodes of the sockets that are bound to it.
fn sockets(port: &HostPort) -> Vec<u64> {
    // The state of one that listens; a datagram socket that is bound has none of its own.
    let (names, state) = match port.protocol.as_str() {
        "TCP" => (["tcp", "tcp6"], Some("0A")),
        "UDP" => (["udp", "udp6"], None),
        _ => return Vec::new(),
    };
    let tables = names.iter().map(|name| fs::read_to_string(format!("/proc/net/{name}")));
    tables.flatten().flat_map(|table| bound(&table, port, state)).collect()
}

/// proc_net_tcp(5): the local address is the second word, the state the fourth, the inode the tenth.
fn bound(table: &str, port: &HostPort, state: Option<&str>) -> Vec<u64> {
    let inode = |line: &str| {
        let words: Vec<&str> = line.split_whitespace().collect();
        let (address, number) = words.get(1)?.split_once(':')?;
        let same = u16::from_str_radix(number, 16).ok()? == port.port
            && state.is_none_or(|state| words.get(3) == Some(&state))
            && overlaps(parse(address)?, port.address);
        words.get(9)?.parse().ok().filter(|inode| same && *inode != 0)
    };
    table.lines().skip(1).filter_map(inode).collect()
}

fn overlaps(held: IpAddr, wanted: Option<IpAddr>) -> bool {
    held.is_unspecified() || wanted.is_none_or(|wanted| wanted == held)
}

/// The kernel prints words of 32 bits as this machine reads them.
fn parse(address: &str) -> Option<IpAddr> {
    let word = |at: usize| {
        let word = u32::from_str_radix(address.get(at..at + 8)?, 16).ok()?;
        Some(word.to_ne_bytes())
    };
    match address.len() {
        8 => Some(IpAddr::from(word(0)?)),
        32 => {
            let words = [word(0)?, word(8)?, word(16)?, word(24)?].concat();
            let address = IpAddr::from(<[u8; 16]>::try_from(words).ok()?);
            Some(address.to_canonical())
        }
        _ => None,
    }
}

/// The first process, in order of numbers, that has one of them open and is not of the pod.
fn owner(sockets: &[u64], pod: PodUid) -> Option<u32> {
    let names: Vec<String> = sockets.iter().map(|inode| format!("socket:[{inode}]")).collect();
    let numbers = fs::read_dir("/proc").ok()?.flatten();
    let numbers = numbers.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
    let mut pids: Vec<u32> = numbers.take(MAX_PROCESSES).collect();
    pids.sort_unstable();
    let mut left = MAX_DESCRIPTORS;
    let ours = pod.to_string();
    pids.into_iter().find(|pid| {
        let fds = fs::read_dir(format!("/proc/{pid}/fd")).into_iter().flatten().flatten();
        let mut fds = fds.take(left).inspect(|_| left -= 1);
        fds.any(|fd| {
            fs::read_link(fd.path()).is_ok_and(|to| names.iter().any(|name| to == Path::new(name)))
        }) && !cgroups(*pid).contains(&ours)
    })
}

fn cgroups(pid: u32) -> String {
    fs::read_to_string(format!("/proc/{pid}/cgroup")).unwrap_or_default()
}

/// `pid 812 (prometheus-node), unit prometheus-node-exporter.service`.
fn describe(pid: u32) -> String {
    let name = fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
    let of = belongs(&cgroups(pid)).map(|of| format!(", {of}")).unwrap_or_default();
    format!("pid {pid} ({}){of}", name.trim())
}

/// systemd's unit, by the innermost that its cgroups name; or one of our own DaemonSets.
fn belongs(cgroups: &str) -> Option<String> {
    let mut paths = cgroups.lines().filter_map(|line| line.splitn(3, ':').nth(2));
    paths.find_map(|path| {
        let is_unit = |part: &&str| part.ends_with(".service") || part.ends_with(".scope");
        let unit = || path.rsplit('/').find(is_unit).map(|unit| format!("unit {unit}"));
        place_of(path).map(|place| format!("DaemonSet {place}")).or_else(unit)
    })
}

#[cfg(test)]
mod tests {
    use std::net::{TcpListener, UdpSocket};

    use super::*;

    fn port(protocol: &str, address: Option<&str>, port: u16) -> HostPort {
        let address = address.map(|address| address.parse().unwrap());
        HostPort { protocol: protocol.into(), address, port }
    }

    fn somebody() -> PodUid {
        PodUid::new(uuid::Uuid::from_u128(1))
    }

    #[test]
    fn this_process_is_found_by_its_ports() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let datagrams = UdpSocket::bind("[::1]:0").unwrap();
        let tcp = listener.local_addr().unwrap().port();
        let udp = datagrams.local_addr().unwrap().port();
        let me = format!("is held by pid {} (", std::process::id());
        for port in
            [port("TCP", None, tcp), port("TCP", Some("127.0.0.1"), tcp), port("UDP", None, udp)]
        {
            let found = holder(std::slice::from_ref(&port), somebody()).unwrap();
            assert!(found.starts_with(&format!("port {port} {me}")), "{found}");
        }
        assert_eq!(holder(&[port("TCP", Some("127.0.0.2"), tcp)], somebody()), None);
        assert_eq!(holder(&[port("SCTP", None, tcp)], somebody()), None);
        drop(listener);
        assert_eq!(holder(&[port("TCP", None, tcp)], somebody()), None);
    }

    #[test]
    fn the_kernels_addresses_are_read() {
        let loopback = if cfg!(target_endian = "little") { "0100007F" } else { "7F000001" };
        assert_eq!(parse(loopback), Some("127.0.0.1".parse().unwrap()));
        assert_eq!(parse(&"0".repeat(32)), Some("::".parse().unwrap()));
        assert_eq!((parse("0"), parse("zzzzzzzz")), (None, None));
    }

    #[test]
    fn a_holder_is_named_by_its_unit_or_its_daemonset() {
        let hybrid =
            "4:memory:/\n1:name=systemd:/system.slice/x.service\n0::/system.slice/x.service\n";
        assert_eq!(belongs(hybrid).as_deref(), Some("unit x.service"));
        let nested = "0::/user.slice/user-0.slice/session-3.scope\n";
        assert_eq!(belongs(nested).as_deref(), Some("unit session-3.scope"));
        let ours = "0::/everynode/default/d-exporter/a.b.c/c-main\n";
        assert_eq!(belongs(ours).as_deref(), Some("DaemonSet default/exporter"));
        assert_eq!(belongs("0::/\n"), None);
    }
}
