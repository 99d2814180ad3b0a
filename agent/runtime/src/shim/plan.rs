//! A pod's plan on the wire: how its containers live together. Its supervisor decides nothing by
//! it, and tells it to each agent that comes, so that who adopts a pod looks after it as its maker
//! did.

use std::collections::BTreeMap;
use std::time::Duration;

use everynode_agent_core::{
    Handler, Hooks, Lifecycle, PodSpec, Probe, Probes, RestartBackoff, Role,
};
use serde::{Deserialize, Serialize};

use super::protocol::millis;

/// What of a pod's template its agent decides by.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct WirePlan {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    restart_first_millis: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    restart_max_millis: Option<u64>,
    /// Whether the pod has a network of its own: then who probes it asks for sockets in it.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    own_network: bool,
    /// By name; those of whom nothing is said are main containers without probes and hooks.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    containers: BTreeMap<String, WireLifecycle>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
struct WireLifecycle {
    #[serde(default)]
    role: WireRole,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    startup: Option<WireProbe>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    liveness: Option<WireProbe>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    readiness: Option<WireProbe>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    post_start: Option<WireHandler>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pre_stop: Option<WireHandler>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum WireRole {
    Init,
    Sidecar,
    #[default]
    Main,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct WireProbe {
    handler: WireHandler,
    initial_delay_millis: u64,
    period_millis: u64,
    timeout_millis: u64,
    success_threshold: u32,
    failure_threshold: u32,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    grace_millis: Option<u64>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum WireHandler {
    Exec {
        command: Vec<String>,
    },
    Http {
        tls: bool,
        host: Option<String>,
        port: u16,
        path: String,
        headers: Vec<(String, String)>,
    },
    Tcp {
        host: Option<String>,
        port: u16,
    },
    Grpc {
        port: u16,
        service: String,
    },
    Sleep {
        millis: u64,
    },
}

impl WirePlan {
    pub(crate) fn of(spec: &PodSpec) -> Self {
        let says = spec.containers.iter().filter(|c| c.lifecycle != Lifecycle::default());
        Self {
            restart_first_millis: spec.restart.first.map(millis),
            restart_max_millis: spec.restart.max.map(millis),
            own_network: spec.namespaces.network,
            containers: says.map(|c| (c.name.clone(), (&c.lifecycle).into())).collect(),
        }
    }

    pub(crate) const fn own_network(&self) -> bool {
        self.own_network
    }

    pub(crate) fn restart(&self) -> RestartBackoff {
        RestartBackoff {
            first: self.restart_first_millis.map(Duration::from_millis),
            max: self.restart_max_millis.map(Duration::from_millis),
        }
    }

    pub(crate) fn lifecycle(&self, container: &str) -> Lifecycle {
        self.containers.get(container).cloned().map(Lifecycle::from).unwrap_or_default()
    }
}

impl From<&Lifecycle> for WireLifecycle {
    fn from(life: &Lifecycle) -> Self {
        let probe = |probe: &Option<Probe>| probe.as_ref().map(WireProbe::from);
        let handler = |handler: &Option<Handler>| handler.clone().map(WireHandler::from);
        Self {
            role: life.role.into(),
            startup: probe(&life.probes.startup),
            liveness: probe(&life.probes.liveness),
            readiness: probe(&life.probes.readiness),
            post_start: handler(&life.hooks.post_start),
            pre_stop: handler(&life.hooks.pre_stop),
        }
    }
}

impl From<WireLifecycle> for Lifecycle {
    fn from(life: WireLifecycle) -> Self {
        Self {
            role: life.role.into(),
            probes: Probes {
                startup: life.startup.map(Probe::from),
                liveness: life.liveness.map(Probe::from),
                readiness: life.readiness.map(Probe::from),
            },
            hooks: Hooks {
                post_start: life.post_start.map(Handler::from),
                pre_stop: life.pre_stop.map(Handler::from),
            },
        }
    }
}

impl From<Role> for WireRole {
    fn from(role: Role) -> Self {
        match role {
            Role::Init => Self::Init,
            Role::Sidecar => Self::Sidecar,
            Role::Main => Self::Main,
        }
    }
}

impl From<WireRole> for Role {
    fn from(role: WireRole) -> Self {
        match role {
            WireRole::Init => Self::Init,
            WireRole::Sidecar => Self::Sidecar,
            WireRole::Main => Self::Main,
        }
    }
}

impl From<&Probe> for WireProbe {
    fn from(probe: &Probe) -> Self {
        Self {
            handler: probe.handler.clone().into(),
            initial_delay_millis: millis(probe.initial_delay),
            period_millis: millis(probe.period),
            timeout_millis: millis(probe.timeout),
            success_threshold: probe.success_threshold,
            failure_threshold: probe.failure_threshold,
            grace_millis: probe.grace.map(millis),
        }
    }
}

impl From<WireProbe> for Probe {
    fn from(probe: WireProbe) -> Self {
        Self {
            handler: probe.handler.into(),
            initial_delay: Duration::from_millis(probe.initial_delay_millis),
            period: Duration::from_millis(probe.period_millis),
            timeout: Duration::from_millis(probe.timeout_millis),
            success_threshold: probe.success_threshold,
            failure_threshold: probe.failure_threshold,
            grace: probe.grace_millis.map(Duration::from_millis),
        }
    }
}

impl From<Handler> for WireHandler {
    fn from(handler: Handler) -> Self {
        match handler {
            Handler::Exec(command) => Self::Exec { command },
            Handler::Http { tls, host, port, path, headers } => {
                Self::Http { tls, host, port, path, headers }
            }
            Handler::Tcp { host, port } => Self::Tcp { host, port },
            Handler::Grpc { port, service } => Self::Grpc { port, service },
            Handler::Sleep(time) => Self::Sleep { millis: millis(time) },
        }
    }
}

impl From<WireHandler> for Handler {
    fn from(handler: WireHandler) -> Self {
        match handler {
            WireHandler::Exec { command } => Self::Exec(command),
            WireHandler::Http { tls, host, port, path, headers } => {
                Self::Http { tls, host, port, path, headers }
            }
            WireHandler::Tcp { host, port } => Self::Tcp { host, port },
            WireHandler::Grpc { port, service } => Self::Grpc { port, service },
            WireHandler::Sleep { millis } => Self::Sleep(Duration::from_millis(millis)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use everynode_agent_core::ContainerSpec;

    fn probe(handler: Handler) -> Option<Probe> {
        Some(Probe {
            handler,
            initial_delay: Duration::from_secs(1),
            period: Duration::from_secs(2),
            timeout: Duration::from_secs(3),
            success_threshold: 4,
            failure_threshold: 5,
            grace: Some(Duration::from_secs(6)),
        })
    }

    #[test]
    fn a_plan_comes_back_as_it_was_told() {
        let (host, path) = (Some("h".to_owned()), "/p?q".to_owned());
        let headers = vec![("A".to_owned(), "1".to_owned()), ("A".to_owned(), "2".to_owned())];
        let http = Handler::Http { tls: true, host: host.clone(), port: 1, path, headers };
        let lifecycle = Lifecycle {
            role: Role::Sidecar,
            probes: Probes {
                startup: probe(http.clone()),
                liveness: probe(Handler::Tcp { host, port: 2 }),
                readiness: probe(Handler::Grpc { port: 3, service: "s".into() }),
            },
            hooks: Hooks {
                post_start: Some(Handler::Exec(vec!["a".into(), "b".into()])),
                pre_stop: Some(Handler::Sleep(Duration::from_secs(7))),
            },
        };
        let init = Lifecycle { role: Role::Init, ..Lifecycle::default() };
        let container = |name: &str, lifecycle| ContainerSpec {
            name: name.into(),
            lifecycle,
            ..ContainerSpec::default()
        };
        let restart = RestartBackoff { first: Some(Duration::from_secs(8)), max: None };
        let spec = PodSpec {
            containers: vec![
                container("init", init.clone()),
                container("side", lifecycle.clone()),
                container("main", Lifecycle::default()),
            ],
            restart,
            ..PodSpec::default()
        };
        let line = serde_json::to_string(&WirePlan::of(&spec)).unwrap();
        assert!(!line.contains("main"), "of whom nothing is said nothing is written: {line}");
        let plan: WirePlan = serde_json::from_str(&line).unwrap();
        assert_eq!(plan.restart(), restart);
        assert_eq!(plan.lifecycle("init"), init);
        assert_eq!(plan.lifecycle("side"), lifecycle);
        assert_eq!(plan.lifecycle("main"), Lifecycle::default());
    }
}
