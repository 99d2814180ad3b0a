//! A container's environment, as the kubelet makes it.

use std::net::Ipv4Addr;

use everynode_agent_core::Namespaces;
use everynode_model::{ObjectKind, Reason, node_label, pod_name};
use everynode_runtime::DEFAULT_PATH;

use super::content::{Config, Content, Variable};
use super::fields::{
    Container, EnvFrom, EnvVar, FieldRef, KeyRef, Metadata, ObjectRef, ResourceRef, ValueFrom,
    refuse_rest,
};
use super::{CONFIG_ERROR, Surroundings, unsupported};

/// What variables come from.
pub(super) struct Sources<'a> {
    pub(super) metadata: &'a Metadata,
    pub(super) config: &'a Config,
    pub(super) around: &'a Surroundings,
    pub(super) namespaces: Namespaces,
    /// All containers of the pod: one may ask for what another may use.
    pub(super) containers: &'a [&'a Container],
}

type Env = Vec<(String, String)>;

/// The whole environment: two defaults, what whole objects give, then the template's own, in order.
pub(super) fn environment(
    container: &Container,
    path: &str,
    from: &Sources<'_>,
) -> Result<Env, Reason> {
    let mut env = vec![
        ("PATH".to_owned(), DEFAULT_PATH.to_owned()),
        ("HOSTNAME".to_owned(), from.around.hostname.clone()),
    ];
    for (number, source) in container.env_from.iter().enumerate() {
        from.all(source, &format!("{path}.envFrom[{number}]"), &mut env)?;
    }
    for (number, variable) in container.env.iter().enumerate() {
        let path = format!("{path}.env[{number}]");
        if let Some(value) = from.value(variable, container, &path, &env)? {
            set(&mut env, variable.name.clone(), value);
        }
    }
    Ok(env)
}

/// A later one outdoes an earlier one of the same name.
fn set(env: &mut Env, name: String, value: String) {
    env.retain(|(known, _)| *known != name);
    env.push((name, value));
}

/// Replaces `$(NAME)` by a variable's value, as Kubernetes does in `command`, `args` and values of
/// `env`: `$$` stands for `$`, and a name that is not known stays as it is written.
pub(super) fn expand(text: &str, env: &[(String, String)]) -> String {
    expand_by(text, |name| lookup(env, name))
}

/// The same, by whatever knows the values.
pub(super) fn expand_by<'a>(text: &str, mut value: impl FnMut(&str) -> Option<&'a str>) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find('$') {
        out.push_str(&rest[..at]);
        rest = &rest[at + 1..];
        if let Some(after) = rest.strip_prefix('$') {
            out.push('$');
            rest = after;
        } else if let Some((name, after)) = reference(rest) {
            match value(name) {
                Some(value) => out.push_str(value),
                None => out.extend(["$(", name, ")"]),
            }
            rest = after;
        } else {
            out.push('$');
        }
    }
    out.push_str(rest);
    out
}

/// A variable's value.
pub(super) fn lookup<'a>(env: &'a [(String, String)], name: &str) -> Option<&'a str> {
    env.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
}

/// What stands in parentheses at the beginning, and what comes after.
fn reference(rest: &str) -> Option<(&str, &str)> {
    rest.strip_prefix('(')?.split_once(')')
}

impl Sources<'_> {
    /// The field of the pod that the `fieldRef` at `path` names.
    pub(super) fn field(&self, from: &FieldRef, path: &str) -> Result<String, Reason> {
        let name = &from.field_path;
        let value = field(name, self.metadata, self.around, self.namespaces.network);
        value.ok_or_else(|| unsupported(&format!("{path}.fieldRef"), &format!("{name:?}")))
    }

    fn value(
        &self,
        variable: &EnvVar,
        container: &Container,
        path: &str,
        env: &[(String, String)],
    ) -> Result<Option<String>, Reason> {
        let Some(from) = &variable.value_from else {
            return Ok(Some(expand(&variable.value, env)));
        };
        let path = format!("{path}.valueFrom");
        let ValueFrom { field_ref, config_map_key_ref, secret_key_ref, resource_field_ref, rest } =
            from;
        refuse_rest(rest, &path, &[])?;
        match (field_ref, config_map_key_ref, secret_key_ref, resource_field_ref) {
            (Some(field), None, None, None) => self.field(field, &path).map(Some),
            (None, Some(key), None, None) => self.key(ObjectKind::ConfigMap, key),
            (None, None, Some(key), None) => self.key(ObjectKind::Secret, key),
            (None, None, None, Some(of)) => {
                self.amount(of, container, &format!("{path}.resourceFieldRef")).map(Some)
            }
            _ => Err(unsupported(&path, "one source is needed, and no more")),
        }
    }

    fn amount(&self, of: &ResourceRef, own: &Container, path: &str) -> Result<String, Reason> {
        let container = match &of.container_name {
            Some(name) => self.containers.iter().copied().find(|container| container.name == *name),
            None => Some(own),
        };
        let container = container.ok_or_else(|| {
            unsupported(&format!("{path}.containerName"), "the pod has no such container")
        })?;
        container.resources.told(of, &self.around.capacity, path)
    }

    fn key(&self, kind: ObjectKind, from: &KeyRef) -> Result<Option<String>, Reason> {
        let KeyRef { name, key, optional } = from;
        let Some(content) = self.object(kind, name, *optional)? else { return Ok(None) };
        match content.variables(kind).find(|(known, _)| known == key) {
            Some((_, value)) => usable(kind, name, key, value).map(Some),
            None if *optional => Ok(None),
            None => {
                let namespace = self.around.key.namespace();
                let line = format!("couldn't find key {key} in {kind} {namespace}/{name}");
                Err(Reason::new(CONFIG_ERROR, line))
            }
        }
    }

    fn all(&self, from: &EnvFrom, path: &str, env: &mut Env) -> Result<(), Reason> {
        refuse_rest(&from.rest, path, &[])?;
        let sources =
            [(ObjectKind::ConfigMap, &from.config_map_ref), (ObjectKind::Secret, &from.secret_ref)];
        for (kind, source) in sources {
            let Some(ObjectRef { name, optional }) = source else { continue };
            let Some(content) = self.object(kind, name, *optional)? else { continue };
            for (key, value) in content.variables(kind) {
                let value = usable(kind, name, key, value)?;
                set(env, format!("{}{key}", from.prefix), value);
            }
        }
        Ok(())
    }

    fn object(
        &self,
        kind: ObjectKind,
        name: &str,
        optional: bool,
    ) -> Result<Option<&Content>, Reason> {
        let found = self.config.get(kind, name, optional);
        found.map_err(|line| Reason::new(CONFIG_ERROR, line))
    }
}

fn usable(kind: ObjectKind, name: &str, key: &str, value: Variable) -> Result<String, Reason> {
    value.ok_or_else(|| {
        let line = format!("key {key} of {kind} {name} is not text that a variable can have");
        Reason::new(CONFIG_ERROR, line)
    })
}

fn field(
    path: &str,
    metadata: &Metadata,
    around: &Surroundings,
    own_network: bool,
) -> Option<String> {
    Some(match path {
        "metadata.name" => pod_name(&around.key, around.uid.uuid().as_bytes()),
        "metadata.namespace" => around.key.namespace().to_owned(),
        "metadata.uid" => around.uid.to_string(),
        "spec.nodeName" => around.node_name.to_string(),
        // All that a network of its own has.
        "status.podIP" if own_network => Ipv4Addr::LOCALHOST.to_string(),
        "status.hostIP" | "status.podIP" => around.address.clone()?,
        _ => {
            if let Some(key) = node_label(path) {
                return Some(around.node_labels.get(key).cloned().unwrap_or_default());
            }
            let (map, key) = path.strip_suffix("']")?.split_once("['")?;
            let map = match map {
                "metadata.labels" => &metadata.labels,
                "metadata.annotations" => &metadata.annotations,
                _ => return None,
            };
            // One that is not there is empty, as in Kubernetes.
            map.get(key).cloned().unwrap_or_default()
        }
    })
}
