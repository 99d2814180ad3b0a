//! Daemons that people run on every machine, from Debian's packages, with their real configuration
//! from a ConfigMap: a log collector, a proxy, a network agent. Seen from outside.

use std::fs::{self, OpenOptions};
use std::io::Write as _;
use std::path::Path;

use everynode_tests::daemon::Daemon;
use everynode_tests::ground::Ground;
use everynode_tests::manifests::{DaemonSet, KNOWS_ITS_NODE};
use everynode_tests::said::Said;
use everynode_tests::{Fleet, Machine, Outcome, ensure, wait};

const NODES: [&str; 3] = ["n1", "n2", "n3"];

/// A line that is written to a log file of a machine arrives at the collector on another one, as
/// the configuration says; another configuration rolls out, and comes back.
pub(crate) fn a_log_collector(ground: &Ground) -> Outcome {
    Fleet::play(ground, 3, |fleet| {
        for name in NODES {
            fs::create_dir(fleet.path(name).join("logs"))?;
        }
        fleet.tool(&["label", "node", "n3", "role=collector"])?.ok()?;
        let collector = fleet.machine("n3")?.address().v6();
        fleet.apply(&[receiver_config(), receiver(fleet)].join("---\n"))?;
        fleet.rolled_out("receiver", "90s")?;
        fleet.apply(&[sender_config(&collector, "first"), sender(fleet)].join("---\n"))?;
        fleet.rolled_out("sender", "90s")?;
        collected(fleet, "first", "one")?;

        let before = fleet.machine("n1")?.running("rsyslogd");
        fleet.apply(&sender_config(&collector, "second"))?;
        fleet.rolled_out("sender", "90s")?;
        ensure!(fleet.machine("n1")?.running("rsyslogd") != before, "nothing was restarted");
        collected(fleet, "second", "two")?;

        let said = fleet.tool(&["rollout", "undo", "daemonset/sender"])?;
        ensure!(said.err.contains("drifted from ConfigMap sender"), "{said:?}");
        fleet.rolled_out("sender", "90s")?;
        collected(fleet, "first", "three")
    })
}

/// A request to any machine's port reaches the backend, which is on one of them.
pub(crate) fn a_proxy(ground: &Ground) -> Outcome {
    Fleet::play(ground, 3, |fleet| {
        let _backend = backend(fleet)?;
        let at = fleet.machine("n1")?.address().v6();
        fleet.apply(&[proxy_config(&at, "first"), proxy()].join("---\n"))?;
        fleet.rolled_out("proxy", "90s")?;
        proxied(fleet, "first")?;
        fleet.apply(&proxy_config(&at, "second"))?;
        fleet.rolled_out("proxy", "90s")?;
        proxied(fleet, "second")?;
        fleet.tool(&["rollout", "undo", "daemonset/proxy"])?.ok()?;
        fleet.rolled_out("proxy", "90s")?;
        proxied(fleet, "first")
    })
}

/// What keeps routes between machines: a ping from one's private address to another's shows it, also
/// after somebody took a route away; and nothing of it is left after the DaemonSet.
pub(crate) fn a_network_agent(ground: &Ground) -> Outcome {
    Fleet::play(ground, 3, |fleet| {
        fleet.apply(&[network_config(fleet)?, network()].join("---\n"))?;
        fleet.rolled_out("network", "90s")?;
        for name in NODES {
            wait::soon(&format!("{name} reaches the others"), || reaches_all(fleet, name))?;
        }
        let n1 = fleet.machine("n1")?;
        ip(n1, "-6 route del fd00:42:2::/48")?.ok()?;
        wait::soon("the route is kept", || reaches_all(fleet, "n1"))?;
        // A shell forks for what it runs in the background, and for a moment there are two.
        let agent = wait::soon("one agent", || n1.only("bash"))?;
        agent.kill()?;
        ip(n1, "-6 route del fd00:42:2::/48")?.ok()?;
        wait::soon("what was killed is back, and keeps the route", || reaches_all(fleet, "n1"))?;

        fleet.tool(&["delete", "daemonset", "network", "--cascade=foreground"])?.ok()?;
        for machine in fleet.machines() {
            let routes = ip(machine, "-6 route show")?.ok()?;
            let addresses = ip(machine, "-6 addr show dev lo")?.ok()?;
            ensure!(!routes.contains("fd00:42:"), "{} keeps {routes}", machine.name());
            ensure!(!addresses.contains("fd00:42:"), "{} keeps {addresses}", machine.name());
        }
        Ok(())
    })
}

/// A new line of each machine's log is what the collector has written, with the mark.
fn collected(fleet: &Fleet<'_>, mark: &str, word: &str) -> Outcome {
    for name in NODES {
        let log = fleet.path(name).join("logs/app.log");
        let mut log = OpenOptions::new().append(true).create(true).open(log)?;
        writeln!(log, "{word} from {name}")?;
    }
    wait::soon(&format!("{word} was collected"), || {
        let text = fs::read_to_string(fleet.path("n3").join("logs/collected.log"))?;
        for name in NODES {
            let line = format!("{mark} {name} {word} from {name}");
            ensure!(text.lines().any(|one| one == line), "no {line:?} in:\n{text}");
        }
        Ok(())
    })
}

/// Every machine's own port answers with the backend's page, and with the proxy's header.
fn proxied(fleet: &Fleet<'_>, mark: &str) -> Outcome {
    for machine in fleet.machines() {
        wait::soon(&format!("the proxy of {} serves {mark}", machine.name()), || {
            let mut curl = machine.command(Path::new("/usr/bin/curl"));
            curl.args(["-sS", "-i", "--fail", "--noproxy", "*", "--max-time", "5"]);
            let answer = Said::by({
                curl.arg("http://localhost:8080/page.txt");
                curl
            })?
            .ok()?
            .to_lowercase();
            let header = format!("x-served-by: {}-{mark}", machine.name());
            ensure!(answer.contains(&header), "no {header:?} in {answer}");
            ensure!(answer.contains("the backend's page"), "{answer}");
            Ok(())
        })?;
    }
    Ok(())
}

/// The only machine that serves the page by itself.
fn backend(fleet: &Fleet<'_>) -> Outcome<Daemon> {
    let pages = fleet.path("pages");
    fs::create_dir(&pages)?;
    fs::write(pages.join("page.txt"), "the backend's page\n")?;
    let machine = fleet.machine("n1")?;
    let mut command = machine.command(Path::new("/usr/bin/python3"));
    command.args(["-m", "http.server", "--bind", "::", "8000", "--directory"]).arg(&pages);
    Daemon::start(command, &machine.file("backend.log"))
}

fn reaches_all(fleet: &Fleet<'_>, from: &str) -> Outcome {
    let machine = fleet.machine(from)?;
    let own = private(machine);
    for other in fleet.machines() {
        let mut ping = machine.command(Path::new("/usr/bin/ping"));
        ping.args(["-6", "-c", "1", "-W", "2", "-I", &own, &private(other)]);
        Said::by(ping)?.ok()?;
    }
    Ok(())
}

fn private(machine: &Machine) -> String {
    format!("fd00:42:{}::1", machine.address().number)
}

fn ip(machine: &Machine, words: &str) -> Outcome<Said> {
    let mut command = machine.command(Path::new("/usr/sbin/ip"));
    command.args(words.split(' '));
    Said::by(command)
}

/// A DaemonSet of one host process with further lines of its pod's spec and of its container.
fn daemon_set(name: &str, spec: &str, container: &str) -> String {
    let container: String = container.lines().map(|line| format!("  {line}\n")).collect();
    DaemonSet {
        name,
        spec: "updateStrategy: {rollingUpdate: {maxUnavailable: 100%}}\n",
        pod: &format!("terminationGracePeriodSeconds: 10\n{spec}"),
        containers: &format!("- name: {name}\n{KNOWS_ITS_NODE}{container}"),
        ..DaemonSet::default()
    }
    .to_string()
}

fn config_map(name: &str, file: &str, text: &str) -> String {
    let text: String = text.lines().map(|line| format!("    {line}\n")).collect();
    format!(
        "apiVersion: v1\nkind: ConfigMap\nmetadata: {{name: {name}}}\ndata:\n  {file}: |\n{text}"
    )
}

/// rsyslog, whose machine's logs are at `/mnt` and whose configuration is where Debian has it.
fn rsyslog(fleet: &Fleet<'_>, name: &str, placed: &str) -> String {
    let spec = format!(
        "{placed}volumes:
- {{name: config, configMap: {{name: {name}}}}}
- {{name: machine, hostPath: {{path: {}, type: Directory}}}}
- {{name: spool, emptyDir: {{}}}}
",
        fleet.path(".").display()
    );
    let container = "command: [/usr/sbin/rsyslogd, -n, -iNONE, -f, /etc/rsyslog.d/all.conf]
volumeMounts:
- {name: config, mountPath: /etc/rsyslog.d, readOnly: true}
- {name: machine, mountPath: /mnt, subPathExpr: $(NODE)/logs}
- {name: spool, mountPath: /var/spool/rsyslog}
";
    daemon_set(name, &spec, container)
}

fn sender(fleet: &Fleet<'_>) -> String {
    rsyslog(fleet, "sender", "")
}

fn receiver(fleet: &Fleet<'_>) -> String {
    rsyslog(fleet, "receiver", "nodeSelector: {role: collector}\n")
}

fn sender_config(collector: &str, mark: &str) -> String {
    let config = format!(
        "global(workDirectory=\"/var/spool/rsyslog\")
module(load=\"imfile\" mode=\"inotify\")
input(type=\"imfile\" file=\"/mnt/app.log\" tag=\"app\")
template(name=\"line\" type=\"string\" string=\"{mark} %$.node% %msg%\\n\")
set $.node = getenv(\"NODE\");
action(type=\"omfwd\" protocol=\"tcp\" target=\"{collector}\" port=\"10514\" template=\"line\"
       action.resumeRetryCount=\"-1\" action.resumeInterval=\"1\")
"
    );
    config_map("sender", "all.conf", &config)
}

fn receiver_config() -> String {
    let config = "module(load=\"imtcp\")
input(type=\"imtcp\" port=\"10514\")
template(name=\"raw\" type=\"string\" string=\"%rawmsg%\\n\")
action(type=\"omfile\" file=\"/mnt/collected.log\" template=\"raw\")
";
    config_map("receiver", "all.conf", config)
}

fn proxy() -> String {
    let spec = "volumes:\n- {name: config, configMap: {name: proxy}}\n";
    let container = "command: [/usr/sbin/haproxy, -W, -db, -f, /etc/haproxy/haproxy.cfg]
ports:
- {name: http, containerPort: 8080, hostPort: 8080}
readinessProbe:
  httpGet: {path: /healthz, port: http}
  periodSeconds: 1
volumeMounts:
- {name: config, mountPath: /etc/haproxy, readOnly: true}
";
    daemon_set("proxy", spec, container)
}

fn proxy_config(backend: &str, mark: &str) -> String {
    let config = format!(
        "defaults
  mode http
  timeout connect 5s
  timeout client 10s
  timeout server 10s
frontend here
  bind :::8080 v4v6
  monitor-uri /healthz
  http-response set-header X-Served-By \"${{NODE}}-{mark}\"
  default_backend pages
backend pages
  server one [{backend}]:8000
"
    );
    config_map("proxy", "haproxy.cfg", &config)
}

fn network() -> String {
    let spec = "volumes:\n- {name: agent, configMap: {name: network, defaultMode: 0555}}\n";
    let container = "command: [/mnt/agent.sh]
securityContext:
  capabilities: {drop: [ALL], add: [NET_ADMIN]}
lifecycle:
  preStop: {exec: {command: [/mnt/agent.sh, clean]}}
volumeMounts:
- {name: agent, mountPath: /mnt, readOnly: true}
";
    daemon_set("network", spec, container)
}

/// Each machine has a private address; a route to each other's goes by way of its public one.
fn network_config(fleet: &Fleet<'_>) -> Outcome<String> {
    let mut peers = String::new();
    for machine in fleet.machines() {
        let (number, at) = (machine.address().number, machine.address().v6());
        peers.push_str(&format!("{}={number}={at} ", machine.name()));
    }
    let script = format!(
        "#!/bin/bash
peers=\"{}\"
clean() {{
  for peer in $peers; do
    IFS== read -r name number at <<<\"$peer\"
    ip -6 addr del fd00:42:$number::1/128 dev lo 2>/dev/null
    ip -6 route del fd00:42:$number::/48 2>/dev/null
  done
}}
if [ \"$1\" = clean ]; then clean; exit 0; fi
trap 'exit 0' TERM
while :; do
  for peer in $peers; do
    IFS== read -r name number at <<<\"$peer\"
    if [ \"$name\" = \"$NODE\" ]; then
      ip -6 addr replace fd00:42:$number::1/128 dev lo
    else
      ip -6 route replace fd00:42:$number::/48 via $at
    fi
  done
  sleep 1 & wait $!
done
",
        peers.trim_end()
    );
    Ok(config_map("network", "agent.sh", &script))
}
