//! What a template says of its containers' lives: when each runs, its probes and hooks, its signal,
//! and what is waited between restarts.
//!
//! Defaults are Kubernetes'. Named ports are looked up among the container's own.

use std::time::Duration;

use everynode_agent_core::{Handler, Hooks, Lifecycle, Probe, Probes, RestartBackoff, Role};
use everynode_model::{InvalidWait, RESTART_BACKOFF, RESTART_BACKOFF_MAX, Reason, restart_waits};
use serde::Deserialize;
use serde_json::Value;

use super::env::expand;
use super::fields::{Container, Metadata, Rest, refuse_rest};
use super::{invalid, unsupported};

/// A probe or a hook, as it is written.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Asked {
    exec: Option<Exec>,
    http_get: Option<Get>,
    tcp_socket: Option<Socket>,
    grpc: Option<Grpc>,
    sleep: Option<Sleep>,
    initial_delay_seconds: Option<u32>,
    timeout_seconds: Option<u32>,
    period_seconds: Option<u32>,
    success_threshold: Option<u32>,
    failure_threshold: Option<u32>,
    termination_grace_period_seconds: Option<u32>,
    #[serde(flatten)]
    rest: Rest,
}

/// `lifecycle`, as it is written.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Around {
    post_start: Option<Asked>,
    pre_stop: Option<Asked>,
    stop_signal: Option<String>,
    #[serde(flatten)]
    rest: Rest,
}

/// A port of a container, as far as a probe may name it.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Port {
    name: Option<String>,
    container_port: Option<u16>,
}

#[derive(Clone, Debug, Deserialize)]
struct Exec {
    #[serde(default)]
    command: Vec<String>,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Get {
    path: Option<String>,
    port: Value,
    host: Option<String>,
    scheme: Option<String>,
    #[serde(default)]
    http_headers: Vec<Header>,
}

#[derive(Clone, Debug, Deserialize)]
struct Header {
    name: String,
    #[serde(default)]
    value: String,
}

#[derive(Clone, Debug, Deserialize)]
struct Socket {
    port: Value,
    host: Option<String>,
}

#[derive(Clone, Debug, Deserialize)]
struct Grpc {
    port: u16,
    #[serde(default)]
    service: Option<String>,
}

#[derive(Clone, Debug, Deserialize)]
struct Sleep {
    #[serde(default)]
    seconds: u32,
}

/// Where a probe or a hook stands.
struct At<'a> {
    container: &'a Container,
    path: String,
}

/// All that is said of one container's life, with the signal that asks it to end.
pub(super) fn read(
    container: &Container,
    is_init: bool,
    path: &str,
    env: &[(String, String)],
) -> Result<(Lifecycle, Option<i32>), Reason> {
    let role = match (is_init, container.restart_policy.as_deref()) {
        (true, None) => Role::Init,
        (true, Some("Always")) => Role::Sidecar,
        (false, None) => Role::Main,
        (_, Some(other)) => {
            let path = format!("{path}.restartPolicy");
            return Err(unsupported(&path, &format!("{other} is not honoured here")));
        }
    };
    let at = |field: &str| At { container, path: format!("{path}.{field}") };
    // As with the kubelet: the words of probes are expanded, those of hooks are not.
    let probe = |field: &str, asked: &Option<Asked>| {
        asked.as_ref().map(|asked| at(field).probe(asked, Some(env))).transpose()
    };
    let around = container.lifecycle.clone().unwrap_or_default();
    refuse_rest(&around.rest, &format!("{path}.lifecycle"), &[])?;
    let hook = |field: &str, asked: &Option<Asked>| {
        asked.as_ref().map(|asked| at(field).handler(asked, None)).transpose()
    };
    let lifecycle = Lifecycle {
        role,
        probes: Probes {
            startup: probe("startupProbe", &container.startup_probe)?,
            liveness: probe("livenessProbe", &container.liveness_probe)?,
            readiness: probe("readinessProbe", &container.readiness_probe)?,
        },
        hooks: Hooks {
            post_start: hook("lifecycle.postStart", &around.post_start)?,
            pre_stop: hook("lifecycle.preStop", &around.pre_stop)?,
        },
    };
    let signal = around.stop_signal.as_deref().map(|name| {
        let path = format!("{path}.lifecycle.stopSignal");
        signal(name).ok_or_else(|| invalid(&path, &format!("no signal {name:?}")))
    });
    Ok((lifecycle, signal.transpose()?))
}

/// What the containers wait between restarts.
pub(super) fn backoff(metadata: &Metadata) -> Result<RestartBackoff, Reason> {
    let said = [RESTART_BACKOFF, RESTART_BACKOFF_MAX].map(|key| metadata.annotation(key));
    let [first, max] = said.each_ref().map(|said| said.as_ref().map(|(text, _)| *text));
    let [first, max] = restart_waits(first, max);
    let [of_first, of_max] = said;
    let read = |wait: Result<Option<Duration>, InvalidWait>, said: Option<(&str, String)>| {
        wait.map_err(|error| {
            let (text, at) = said.unwrap_or_default();
            invalid(&at, &format!("{text:?}: {error}"))
        })
    };
    Ok(RestartBackoff { first: read(first, of_first)?, max: read(max, of_max)? })
}

impl At<'_> {
    fn probe(&self, asked: &Asked, env: Option<&[(String, String)]>) -> Result<Probe, Reason> {
        // Zero is what is not said.
        let number = |given: Option<u32>, usual| given.filter(|given| *given > 0).unwrap_or(usual);
        let seconds = |given, usual| Duration::from_secs(number(given, usual).into());
        Ok(Probe {
            handler: self.handler(asked, env)?,
            initial_delay: seconds(asked.initial_delay_seconds, 0),
            period: seconds(asked.period_seconds, 10),
            timeout: seconds(asked.timeout_seconds, 1),
            success_threshold: number(asked.success_threshold, 1),
            failure_threshold: number(asked.failure_threshold, 3),
            grace: asked.termination_grace_period_seconds.map(|s| Duration::from_secs(s.into())),
        })
    }

    fn handler(&self, asked: &Asked, env: Option<&[(String, String)]>) -> Result<Handler, Reason> {
        refuse_rest(&asked.rest, &self.path, &[])?;
        if let Some(Exec { command }) = &asked.exec {
            if command.is_empty() {
                return Err(invalid(&format!("{}.exec.command", self.path), "required"));
            }
            let word = |word: &String| env.map_or_else(|| word.clone(), |env| expand(word, env));
            return Ok(Handler::Exec(command.iter().map(word).collect()));
        }
        if let Some(get) = &asked.http_get {
            let header = |header: &Header| (header.name.clone(), header.value.clone());
            return Ok(Handler::Http {
                tls: get.scheme.as_deref() == Some("HTTPS"),
                host: get.host.clone(),
                port: self.port("httpGet", &get.port)?,
                path: get.path.clone().unwrap_or_else(|| "/".to_owned()),
                headers: get.http_headers.iter().map(header).collect(),
            });
        }
        if let Some(Socket { port, host }) = &asked.tcp_socket {
            let port = self.port("tcpSocket", port)?;
            return Ok(Handler::Tcp { host: host.clone(), port });
        }
        if let Some(Grpc { port, service }) = &asked.grpc {
            return Ok(Handler::Grpc { port: *port, service: service.clone().unwrap_or_default() });
        }
        match &asked.sleep {
            Some(Sleep { seconds }) => Ok(Handler::Sleep(Duration::from_secs((*seconds).into()))),
            None => Err(invalid(&self.path, "must specify a handler type")),
        }
    }

    /// By number, or by the name of one of the container's ports.
    fn port(&self, action: &str, port: &Value) -> Result<u16, Reason> {
        let known = |name: &str| {
            let ports = self.container.ports.iter();
            let named = ports.filter(|port| port.name.as_deref() == Some(name));
            named.filter_map(|port| port.container_port).next().or_else(|| name.parse().ok())
        };
        let number = match port {
            Value::String(name) => known(name),
            number => number.as_u64().and_then(|number| u16::try_from(number).ok()),
        };
        number.filter(|number| *number != 0).ok_or_else(|| {
            let path = format!("{}.{action}.port", self.path);
            invalid(&path, &format!("{port} is no port of this container"))
        })
    }
}

/// By Kubernetes' names, as on every Linux but MIPS' and some others that this agent is not built for.
fn signal(name: &str) -> Option<i32> {
    /// In the order of their numbers, from 1 on.
    const NAMED: [&str; 31] = [
        "HUP", "INT", "QUIT", "ILL", "TRAP", "ABRT", "BUS", "FPE", "KILL", "USR1", "SEGV", "USR2",
        "PIPE", "ALRM", "TERM", "STKFLT", "CHLD", "CONT", "STOP", "TSTP", "TTIN", "TTOU", "URG",
        "XCPU", "XFSZ", "VTALRM", "PROF", "WINCH", "IO", "PWR", "SYS",
    ];
    const RTMIN: i32 = 34;
    const RTMAX: i32 = 64;
    let name = name.strip_prefix("SIG")?;
    let offset = |text: &str, sign| match text {
        "" => Some(0),
        text => text.strip_prefix(sign)?.parse::<i32>().ok().filter(|by| (0..=30).contains(by)),
    };
    let number = if let Some(rest) = name.strip_prefix("RTMIN") {
        RTMIN + offset(rest, '+')?
    } else if let Some(rest) = name.strip_prefix("RTMAX") {
        RTMAX - offset(rest, '-')?
    } else {
        let name = match name {
            "IOT" => "ABRT",
            "CLD" => "CHLD",
            "POLL" => "IO",
            name => name,
        };
        let index = NAMED.iter().position(|known| *known == name)?;
        i32::try_from(index).ok()? + 1
    };
    Some(number)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn read_one(is_init: bool, mut fields: Value) -> Result<(Lifecycle, Option<i32>), String> {
        fields["name"] = json!("a");
        let container: Container = serde_json::from_value(fields).unwrap();
        let env = [("PORT".to_owned(), "9".to_owned())];
        read(&container, is_init, "c", &env).map_err(|reason| reason.to_string())
    }

    fn probes(fields: Value) -> Probes {
        read_one(false, fields).unwrap().0.probes
    }

    #[test]
    fn what_is_not_said_is_kubernetes_default() {
        let probe = probes(json!({"livenessProbe": {"httpGet": {"port": 80}, "periodSeconds": 0}}));
        let expected = Probe {
            handler: Handler::Http {
                tls: false,
                host: None,
                port: 80,
                path: "/".into(),
                headers: Vec::new(),
            },
            initial_delay: Duration::ZERO,
            period: Duration::from_secs(10),
            timeout: Duration::from_secs(1),
            success_threshold: 1,
            failure_threshold: 3,
            grace: None,
        };
        assert_eq!(probe, Probes { liveness: Some(expected), ..Probes::default() });
    }

    #[test]
    fn a_port_is_found_by_its_name_and_words_by_the_environment() {
        let ports = json!([{"containerPort": 1}, {"name": "web", "containerPort": 8080}]);
        let probe = probes(json!({
            "ports": ports,
            "readinessProbe": {"tcpSocket": {"port": "web", "host": "h"}, "timeoutSeconds": 3},
            "startupProbe": {"exec": {"command": ["a", "$(PORT)"]}},
        }));
        let handler = |probe: Option<Probe>| probe.unwrap().handler;
        let tcp = Handler::Tcp { host: Some("h".into()), port: 8080 };
        assert_eq!(handler(probe.readiness), tcp);
        assert_eq!(handler(probe.startup), Handler::Exec(vec!["a".into(), "9".into()]));
        let why = read_one(false, json!({"livenessProbe": {"tcpSocket": {"port": "no"}}}));
        let line = "c.livenessProbe.tcpSocket.port: \"no\" is no port of this container";
        assert!(why.unwrap_err().contains(line));
        for nothing in [json!({}), json!({"exec": {}}), json!({"inventedNextYear": {"a": 1}})] {
            assert!(read_one(false, json!({"livenessProbe": nothing})).is_err());
        }
    }

    #[test]
    fn hooks_and_signals_are_read() {
        let (lifecycle, signal) = read_one(
            false,
            json!({"lifecycle": {
                "postStart": {"exec": {"command": ["$(PORT)"]}},
                "preStop": {"sleep": {"seconds": 3}},
                "stopSignal": "SIGRTMIN+3",
            }}),
        )
        .unwrap();
        let hooks = Hooks {
            post_start: Some(Handler::Exec(vec!["$(PORT)".into()])),
            pre_stop: Some(Handler::Sleep(Duration::from_secs(3))),
        };
        assert_eq!((lifecycle.hooks, signal), (hooks, Some(37)));
        for (name, number) in [
            ("SIGHUP", Some(1)),
            ("SIGTERM", Some(15)),
            ("SIGSYS", Some(31)),
            ("SIGRTMAX-1", Some(63)),
            ("SIGRTMIN+31", None),
            ("TERM", None),
            ("SIGNO", None),
        ] {
            assert_eq!(super::signal(name), number, "{name}");
        }
    }

    #[test]
    fn a_restart_policy_makes_a_sidecar() {
        let role = |is_init, fields| read_one(is_init, fields).map(|read| read.0.role);
        assert_eq!(role(true, json!({})), Ok(Role::Init));
        assert_eq!(role(true, json!({"restartPolicy": "Always"})), Ok(Role::Sidecar));
        assert_eq!(role(false, json!({})), Ok(Role::Main));
        assert!(role(true, json!({"restartPolicy": "OnFailure"})).is_err());
        assert!(role(false, json!({"restartPolicy": "Never"})).is_err());
    }

    #[test]
    fn waits_between_restarts_have_bounds() {
        let of = |first: &str| {
            let annotations = json!({RESTART_BACKOFF: first, RESTART_BACKOFF_MAX: "1m"});
            let metadata = json!({ "annotations": annotations });
            backoff(&serde_json::from_value(metadata).unwrap())
        };
        let (first, max) = (Some(Duration::from_secs(2)), Some(Duration::from_secs(60)));
        assert_eq!(of("2s"), Ok(RestartBackoff { first, max }));
        for bad in ["0s", "500ms", "soon", "2h", "61s"] {
            assert!(of(bad).is_err(), "{bad}");
        }
    }
}
