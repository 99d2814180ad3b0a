//! A pod template in kubectl's layout.

use std::fmt::Write as _;

use serde_json::Value;

/// The template as lines with tabs, `Pod Template:` first.
pub(crate) fn template_text(template: &Value) -> String {
    let mut text = String::from("Pod Template:\n");
    let spec = &template["spec"];
    map(&mut text, "  Labels", &template["metadata"]["labels"]);
    if template["metadata"]["annotations"].is_object() {
        map(&mut text, "  Annotations", &template["metadata"]["annotations"]);
    }
    for (title, field) in
        [("Service Account", "serviceAccountName"), ("Runtime Class", "runtimeClassName")]
    {
        if let Some(value) = spec[field].as_str().filter(|value| !value.is_empty()) {
            let _ = writeln!(text, "  {title}:\t{value}");
        }
    }
    for (title, field) in [("Init Containers", "initContainers"), ("Containers", "containers")] {
        let containers = spec[field].as_array().map_or(&[][..], Vec::as_slice);
        if !containers.is_empty() {
            let _ = writeln!(text, "  {title}:");
        }
        for one in containers {
            container_text(&mut text, " ", one, |_| ());
        }
    }
    push_placement(&mut text, "  ", spec);
    text
}

/// What network a pod has, its volumes, and where it may run; `space` is before each title.
pub(super) fn push_placement(text: &mut String, space: &str, spec: &Value) {
    if spec["runtimeClassName"] == "process" && spec["hostNetwork"] != true {
        let _ = writeln!(text, "{space}Network:\tloopback alone (hostNetwork is not true)");
    }
    volumes(text, space, &spec["volumes"]);
    map(text, &format!("{space}Node-Selectors"), &spec["nodeSelector"]);
    lines(text, &format!("{space}Tolerations"), &list(&spec["tolerations"], toleration));
}

/// One container, `space` further in than one of a pod, with what is known of its `state` between what
/// it is and how it is looked after.
pub(super) fn container_text(
    text: &mut String,
    space: &str,
    container: &Value,
    state: impl FnOnce(&mut String),
) {
    let _ = writeln!(text, "  {space}{}:", scalar(&container["name"]));
    if let Some(image) = container["image"].as_str().filter(|image| !image.is_empty()) {
        let _ = writeln!(text, "    Image:\t{image}");
    }
    let ports = |field: &str| {
        list(&container["ports"], |port| {
            let protocol = port["protocol"].as_str().unwrap_or("TCP");
            format!("{}/{protocol}", port[field].as_u64().unwrap_or(0))
        })
        .join(", ")
    };
    let ports_or_none = |text: String| if text.is_empty() { "<none>".into() } else { text };
    let _ = writeln!(text, "    Port:\t{}", ports_or_none(ports("containerPort")));
    let _ = writeln!(text, "    Host Port:\t{}", ports_or_none(ports("hostPort")));
    for (title, field) in [("Command", "command"), ("Args", "args")] {
        below(text, title, &list(&container[field], scalar));
    }
    state(text);
    for (title, field) in [("Limits", "limits"), ("Requests", "requests")] {
        let entries: Vec<String> = pairs(&container["resources"][field], ":\t");
        below(text, title, &entries);
    }
    for (title, field) in [
        ("Liveness", "livenessProbe"),
        ("Readiness", "readinessProbe"),
        ("Startup", "startupProbe"),
    ] {
        if container[field].is_object() {
            let _ = writeln!(text, "    {title}:\t{}", probe(&container[field]));
        }
    }
    below_or_none(text, "Environment", &list(&container["env"], environment));
    below_or_none(text, "Mounts", &list(&container["volumeMounts"], mount));
}

fn below(text: &mut String, title: &str, entries: &[String]) {
    if entries.is_empty() {
        return;
    }
    let _ = writeln!(text, "    {title}:");
    for entry in entries {
        // A command may be a script: each of its lines at the same depth.
        for line in entry.lines() {
            let _ = writeln!(text, "      {line}");
        }
    }
}

fn below_or_none(text: &mut String, title: &str, entries: &[String]) {
    match entries {
        [] => drop(writeln!(text, "    {title}:\t<none>")),
        entries => below(text, title, entries),
    }
}

fn environment(variable: &Value) -> String {
    let name = scalar(&variable["name"]);
    let from = &variable["valueFrom"];
    let value = match from.as_object().and_then(|from| from.iter().next()) {
        None => scalar(&variable["value"]),
        Some((source, place)) => match source.as_str() {
            "fieldRef" => format!("({})", scalar(&place["fieldPath"])),
            "resourceFieldRef" => format!("({})", scalar(&place["resource"])),
            _ => format!("<{source}: {}/{}>", scalar(&place["name"]), scalar(&place["key"])),
        },
    };
    format!("{name}:\t{value}")
}

fn mount(mount: &Value) -> String {
    let mode = if mount["readOnly"].as_bool() == Some(true) { "ro" } else { "rw" };
    format!("{} from {} ({mode})", scalar(&mount["mountPath"]), scalar(&mount["name"]))
}

fn volumes(text: &mut String, space: &str, volumes: &Value) {
    let volumes = volumes.as_array().map_or(&[][..], Vec::as_slice);
    if volumes.is_empty() {
        let _ = writeln!(text, "{space}Volumes:\t<none>");
        return;
    }
    let _ = writeln!(text, "{space}Volumes:");
    for volume in volumes {
        // As kubectl: a template's names are set in by one more.
        let name_space = if space.is_empty() { "  " } else { "   " };
        let _ = writeln!(text, "{name_space}{}:", scalar(&volume["name"]));
        let sources = volume.as_object().into_iter().flatten().filter(|(key, _)| *key != "name");
        for (source, settings) in sources {
            let _ = writeln!(text, "    Type:\t{source}");
            for setting in pairs(settings, ":\t") {
                let _ = writeln!(text, "    {setting}");
            }
        }
    }
}

fn probe(probe: &Value) -> String {
    let handler =
        ["exec", "httpGet", "tcpSocket", "grpc"].into_iter().find(|kind| probe[*kind].is_object());
    let what = match handler {
        Some("exec") => format!("exec {:?}", list(&probe["exec"]["command"], scalar)),
        Some("httpGet") => {
            let get = &probe["httpGet"];
            let scheme = get["scheme"].as_str().unwrap_or("HTTP").to_lowercase();
            let host = get["host"].as_str().unwrap_or_default();
            format!("http-get {scheme}://{host}:{}{}", scalar(&get["port"]), scalar(&get["path"]))
        }
        Some("tcpSocket") => {
            let socket = &probe["tcpSocket"];
            let host = socket["host"].as_str().unwrap_or_default();
            format!("tcp-socket {host}:{}", scalar(&socket["port"]))
        }
        Some("grpc") => format!("grpc :{}", scalar(&probe["grpc"]["port"])),
        _ => "unknown".into(),
    };
    let number = |field: &str, usual: u64| probe[field].as_u64().unwrap_or(usual);
    format!(
        "{what} delay={}s timeout={}s period={}s #success={} #failure={}",
        number("initialDelaySeconds", 0),
        number("timeoutSeconds", 1),
        number("periodSeconds", 10),
        number("successThreshold", 1),
        number("failureThreshold", 3)
    )
}

/// A toleration as kubectl writes it: `key=value:Effect for 300s`.
fn toleration(toleration: &Value) -> String {
    let part = |field: &str| toleration[field].as_str().unwrap_or_default().to_owned();
    let (key, value, effect) = (part("key"), part("value"), part("effect"));
    let mut text = key.clone();
    if !value.is_empty() {
        let _ = write!(text, "={value}");
    }
    if !effect.is_empty() {
        let _ = write!(text, ":{effect}");
    }
    if part("operator") == "Exists" && value.is_empty() {
        text.push_str(if key.is_empty() && effect.is_empty() { "op=Exists" } else { " op=Exists" });
    }
    if let Some(seconds) = toleration["tolerationSeconds"].as_i64() {
        let _ = write!(text, " for {seconds}s");
    }
    text
}

fn map(text: &mut String, title: &str, map: &Value) {
    lines(text, title, &pairs(map, "="));
}

fn lines(text: &mut String, title: &str, entries: &[String]) {
    super::push_lines(text, title, entries);
}

fn pairs(map: &Value, between: &str) -> Vec<String> {
    let entries = map.as_object().into_iter().flatten();
    entries.map(|(key, value)| format!("{key}{between}{}", scalar(value))).collect()
}

fn list(values: &Value, one: impl Fn(&Value) -> String) -> Vec<String> {
    values.as_array().into_iter().flatten().map(one).collect()
}

/// Text as it is; anything else as JSON; nothing for nothing.
fn scalar(value: &Value) -> String {
    match value {
        Value::Null => String::new(),
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::table::align_tabs;

    #[test]
    fn a_template_is_laid_out_like_kubectls() {
        let template = json!({
            "metadata": {"labels": {"app": "m"}},
            "spec": {
                "containers": [{
                    "name": "agent", "image": "nginx", "args": ["--x"],
                    "ports": [{"containerPort": 80}],
                    "resources": {"limits": {"cpu": "1"}},
                    "livenessProbe": {"httpGet": {"path": "/healthz", "port": 80}},
                    "env": [{"name": "A", "value": "1"},
                            {"name": "NODE", "valueFrom": {"fieldRef": {"fieldPath": "spec.nodeName"}}}],
                    "volumeMounts": [{"name": "log", "mountPath": "/var/log", "readOnly": true}],
                }],
                "volumes": [{"name": "log", "hostPath": {"path": "/var/log"}}],
                "tolerations": [{"operator": "Exists"}, {"key": "a", "value": "b", "effect": "NoExecute", "tolerationSeconds": 5}],
            },
        });
        let expected = "\
Pod Template:
  Labels:  app=m
  Containers:
   agent:
    Image:      nginx
    Port:       80/TCP
    Host Port:  0/TCP
    Args:
      --x
    Limits:
      cpu:     1
    Liveness:  http-get http://:80/healthz delay=0s timeout=1s period=10s #success=1 #failure=3
    Environment:
      A:     1
      NODE:  (spec.nodeName)
    Mounts:
      /var/log from log (ro)
  Volumes:
   log:
    Type:          hostPath
    path:          /var/log
  Node-Selectors:  <none>
  Tolerations:     op=Exists
                   a=b:NoExecute for 5s
";
        assert_eq!(align_tabs(&template_text(&template)), expected);
    }

    #[test]
    fn an_empty_template_is_no_trouble() {
        assert!(template_text(&json!({})).contains("Volumes:\t<none>"));
    }
}
