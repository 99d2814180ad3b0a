//! A container's environment, as the kubelet makes it.

use everynode_model::{Reason, pod_name};
use serde_json::Value;

use super::fields::{Container, EnvVar, FieldRef, Metadata, ValueFrom};
use super::{Surroundings, unsupported};

/// Where programs are found when a template does not say (Debian's for root).
const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// The whole environment: two defaults, then the template's, in order.
pub(super) fn environment(
    container: &Container,
    path: &str,
    metadata: &Metadata,
    around: &Surroundings,
) -> Result<Vec<(String, String)>, Reason> {
    let mut env = vec![
        ("PATH".to_owned(), PATH.to_owned()),
        ("HOSTNAME".to_owned(), around.hostname.clone()),
    ];
    for (number, variable) in container.env.iter().enumerate() {
        let path = format!("{path}.env[{number}]");
        let Some(value) = value(variable, &path, &env, metadata, around)? else { continue };
        // A later one outdoes an earlier one of the same name.
        env.retain(|(name, _)| *name != variable.name);
        env.push((variable.name.clone(), value));
    }
    Ok(env)
}

/// Replaces `$(NAME)` by a variable's value, as Kubernetes does in `command`, `args` and values of
/// `env`: `$$` stands for `$`, and a name that is not known stays as it is written.
pub(super) fn expand(text: &str, env: &[(String, String)]) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find('$') {
        out.push_str(&rest[..at]);
        rest = &rest[at + 1..];
        if let Some(after) = rest.strip_prefix('$') {
            out.push('$');
            rest = after;
        } else if let Some((name, after)) = reference(rest) {
            match env.iter().find(|(known, _)| known == name) {
                Some((_, value)) => out.push_str(value),
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

/// What stands in parentheses at the beginning, and what comes after.
fn reference(rest: &str) -> Option<(&str, &str)> {
    rest.strip_prefix('(')?.split_once(')')
}

fn value(
    variable: &EnvVar,
    path: &str,
    env: &[(String, String)],
    metadata: &Metadata,
    around: &Surroundings,
) -> Result<Option<String>, Reason> {
    match &variable.value_from {
        None => Ok(Some(expand(&variable.value, env))),
        Some(ValueFrom { field_ref: Some(FieldRef { field_path }), rest }) if rest.is_empty() => {
            let value = field(field_path, metadata, around);
            let path = format!("{path}.valueFrom.fieldRef");
            value.map(Some).ok_or_else(|| unsupported(&path, &format!("{field_path:?}")))
        }
        Some(ValueFrom { rest, .. }) => {
            let optional = |from: &Value| from.get("optional") == Some(&Value::Bool(true));
            if rest.values().all(optional) && !rest.is_empty() {
                return Ok(None);
            }
            let source = rest.keys().next().map_or("fieldRef", String::as_str);
            let path = format!("{path}.valueFrom.{source}");
            Err(unsupported(&path, "this agent gets no ConfigMaps, Secrets or resources"))
        }
    }
}

fn field(path: &str, metadata: &Metadata, around: &Surroundings) -> Option<String> {
    Some(match path {
        "metadata.name" => pod_name(&around.key, around.uid.uuid().as_bytes()),
        "metadata.namespace" => around.key.namespace().to_owned(),
        "metadata.uid" => around.uid.to_string(),
        "spec.nodeName" => around.node_name.to_string(),
        // The pod shares the host's network.
        "status.hostIP" | "status.podIP" => around.address.clone()?,
        _ => {
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
