use super::*;
use everynode_agent_core::{Capabilities, CapabilitySet, Namespaces, Pids, Seccomp, Security};
use everynode_agent_core::{HostPathKind, Propagation, ReadOnly, Volume, VolumeFile, VolumeSource};
use everynode_model::go_arch;
use serde_json::json;

fn around() -> Surroundings {
    Surroundings {
        key: PodKey::new("monitoring", "exporter").unwrap(),
        uid: "6ba7b810-9dad-41d1-80b4-00c04fd430c8".parse().unwrap(),
        node_name: NodeName::new("edge-1").unwrap(),
        node_labels: [("site".to_owned(), "lab".to_owned())].into(),
        hostname: "edge-1.example".into(),
        address: Some("10.0.0.5".into()),
        makes_namespaces: true,
        agent_user: 0,
        capacity: BTreeMap::new(),
        contents: Contents::new(),
        artifacts: "/store".into(),
    }
}

fn template(pod: Value, container: Value) -> Vec<u8> {
    let mut template = json!({
        "metadata": {"labels": {"app": "x"}, "annotations": {"note": "y"}},
        "spec": {"runtimeClassName": "process", "containers": [{"name": "c", "command": ["/bin/c"]}]},
    });
    merge(&mut template["spec"], pod);
    merge(&mut template["spec"]["containers"][0], container);
    serde_json::to_vec(&template).unwrap()
}

fn merge(into: &mut Value, from: Value) {
    let Value::Object(from) = from else { panic!("an object") };
    into.as_object_mut().unwrap().extend(from);
}

fn parse(pod: Value, container: Value) -> Result<PodSpec, Reason> {
    pod_spec(&template(pod, container), &around())
}

fn refusal(pod: Value, container: Value) -> Reason {
    parse(pod, container).unwrap_err()
}

#[test]
fn a_plain_pod_gets_the_defaults() {
    let spec = parse(json!({}), json!({})).unwrap();
    assert_eq!(spec.grace, Duration::from_secs(30));
    let [container] = spec.containers.as_slice() else { panic!("one container") };
    assert_eq!(container.argv, ["/bin/c"]);
    assert_eq!(container.security, Security::default());
    let names: Vec<&str> = container.env.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(names, ["PATH", "HOSTNAME"]);
    assert_eq!(container.env[1].1, "edge-1.example");
}

#[test]
fn a_container_outdoes_its_pod() {
    let spec = parse(
        json!({
            "securityContext": {"runAsUser": 5, "runAsGroup": 6, "runAsNonRoot": true},
            "terminationGracePeriodSeconds": 0,
        }),
        json!({
            "securityContext": {"runAsUser": 7, "allowPrivilegeEscalation": false},
            "workingDir": "/srv",
        }),
    )
    .unwrap();
    let container = &spec.containers[0];
    let expected =
        Security { user: Some(7), group: Some(6), no_new_privs: true, ..Security::default() };
    assert_eq!(container.security, expected);
    assert_eq!(container.working_dir.as_deref(), Some("/srv"));
    assert_eq!(spec.grace, Duration::ZERO);
}

fn security(pod: Value, container: Value) -> Security {
    let context = |security: Value| json!({"securityContext": security});
    parse(context(pod), context(container)).unwrap().containers[0].security.clone()
}

#[test]
fn groups_and_capabilities_are_read_to_the_letter() {
    let pod = json!({"supplementalGroups": [9, 5], "fsGroup": 7});
    assert_eq!(security(pod.clone(), json!({})).groups, [5, 7, 9]);
    let strict = json!({"supplementalGroupsPolicy": "Strict"});
    assert!(security(strict, json!({})).strict_groups && !security(pod, json!({})).strict_groups);
    let of = |lists: Value| security(json!({}), json!({"capabilities": lists})).capabilities;
    let (none, chown) = (CapabilitySet::default(), CapabilitySet(1));
    assert_eq!(of(json!(null)), None);
    assert_eq!(
        of(json!({"drop": ["all"], "add": ["chown"]})),
        Some(Capabilities { from_none: true, add: chown, drop: none })
    );
    assert_eq!(
        of(json!({"add": ["ALL"], "drop": ["ALL", "CAP_CHOWN"]})),
        Some(Capabilities { from_none: false, add: none, drop: chown })
    );
}

#[test]
fn a_profile_goes_by_the_capabilities_of_a_container() {
    let default = json!({"seccompProfile": {"type": "RuntimeDefault"}});
    let of = |container: Value| security(default.clone(), container).seccomp;
    assert_eq!(of(json!({})), Seccomp::RuntimeDefault(CapabilitySet::CONTAINER));
    assert_eq!(of(json!({"privileged": true})), Seccomp::RuntimeDefault(CapabilitySet::ALL));
    let one = json!({"capabilities": {"drop": ["ALL"], "add": ["CHOWN"]}});
    assert_eq!(of(one), Seccomp::RuntimeDefault(CapabilitySet(1)));
    assert_eq!(of(json!({"seccompProfile": {"type": "Unconfined"}})), Seccomp::Unconfined);
    let own = json!({"seccompProfile": {"type": "Localhost", "localhostProfile": "a/b.json"}});
    let Seccomp::Localhost { profile, .. } = of(own) else { panic!() };
    assert_eq!(profile, "a/b.json");
}

#[test]
fn only_a_container_says_that_its_root_is_read_only() {
    let read_only = json!({"readOnlyRootFilesystem": true});
    let security = security(json!({}), read_only.clone());
    assert!(security.read_only_root && !security.privileged);
    let reason = refusal(json!({"securityContext": read_only}), json!({}));
    assert!(
        reason.message.starts_with("spec.securityContext.readOnlyRootFilesystem: "),
        "{reason}"
    );
}

#[test]
fn a_container_s_limits_outdo_those_of_all() {
    let mut body: Value = serde_json::from_slice(&template(json!({}), json!({}))).unwrap();
    let mut limits = |annotations: Value| {
        body["metadata"]["annotations"] = annotations;
        let spec = pod_spec(body.to_string().as_bytes(), &around());
        spec.map(|spec| spec.containers[0].security.rlimits.clone())
    };
    let all = "everynode.dev/rlimits";
    let found = limits(json!({all: "core=0", "rlimits.everynode.dev/c": "nofile=1:2,core=1"}));
    assert_eq!(found.unwrap().len(), 2);
    let found = limits(json!({all: "core=0", "rlimits.everynode.dev/other": "nofile=1"})).unwrap();
    assert_eq!((found[0].soft, found.len()), (Some(0), 1));
    assert_eq!(limits(json!({all: "cores=0"})).unwrap_err().code, "InvalidTemplate");
}

#[test]
fn root_is_refused_where_it_must_not_be() {
    let non_root = json!({"securityContext": {"runAsNonRoot": true}});
    assert_eq!(refusal(non_root.clone(), json!({})).code, "CreateContainerConfigError");
    let as_root = json!({"securityContext": {"runAsUser": 0}});
    assert_eq!(refusal(non_root.clone(), as_root).code, "CreateContainerConfigError");
    let allowed = json!({"securityContext": {"runAsNonRoot": false}});
    assert!(parse(non_root.clone(), allowed).is_ok());
    let unprivileged = Surroundings { agent_user: 1000, ..around() };
    assert!(pod_spec(&template(non_root, json!({})), &unprivileged).is_ok());
}

#[test]
fn what_confines_and_can_not_be_honoured_is_refused_by_path() {
    for (pod, path) in [
        (json!({"hostUsers": false}), "spec.hostUsers"),
        (json!({"restartPolicy": "Never"}), "spec.restartPolicy"),
        (json!({"os": {"name": "windows"}}), "spec.os"),
        (
            json!({"initContainers": [{"name": "i", "command": ["i"], "restartPolicy": "Never"}]}),
            "spec.initContainers[0].restartPolicy",
        ),
        (json!({"securityContext": {"sysctls": [{"name": "a"}]}}), "spec.securityContext.sysctls"),
        (json!({"fieldOfTheFuture": 1}), "spec.fieldOfTheFuture"),
    ] {
        let reason = refusal(pod, json!({}));
        assert_eq!(reason.code, "UnsupportedField");
        assert!(reason.message.starts_with(&format!("{path}: ")), "{reason}");
    }
    for (security, field) in [
        (json!({"capabilities": {"drop": ["ROOT"]}}), "capabilities.drop"),
        (json!({"seccompProfile": {"type": "Strict"}}), "seccompProfile"),
        (
            json!({"seccompProfile": {"type": "Localhost", "localhostProfile": "../x"}}),
            "seccompProfile",
        ),
        (json!({"appArmorProfile": {"type": "RuntimeDefault"}}), "appArmorProfile"),
        (json!({"seLinuxOptions": {"level": "s0"}}), "seLinuxOptions"),
    ] {
        let reason = refusal(json!({}), json!({"securityContext": security}));
        let path = format!("spec.containers[0].securityContext.{field}: ");
        assert!(reason.message.starts_with(&path), "{reason}");
    }
    let claims = json!({"resources": {"claims": [{"name": "gpu"}]}});
    assert_eq!(refusal(json!({}), claims).code, "UnsupportedField");
    let devices = json!({"volumeDevices": [{"x": 1}]});
    assert_eq!(refusal(json!({}), devices).code, "UnsupportedField");
}

#[test]
fn what_confines_nothing_is_passed_over() {
    let pod = json!({
        "nodeSelector": {"a": "b"}, "hostNetwork": true, "restartPolicy": "Always",
        "tolerations": [{"operator": "Exists"}], "hostUsers": true, "volumes": [{"name": "v"}],
        "os": {"name": "linux"}, "hostname": "h",
        "securityContext": {"seccompProfile": {"type": "Unconfined"}},
    });
    let container = json!({
        "image": "x", "ports": [{"containerPort": 1}], "resources": {"limits": {"cpu": "1"}},
        "securityContext": {"privileged": true, "readOnlyRootFilesystem": false},
    });
    assert!(parse(pod, container).is_ok());
}

#[test]
fn what_is_not_shared_is_the_pods_own() {
    let of = |pod| parse(pod, json!({})).unwrap().namespaces;
    let own = Namespaces { network: true, ipc: true, pids: Pids::Container };
    assert_eq!(of(json!({})), own);
    assert_eq!(of(json!({"hostNetwork": false, "hostPID": null})), own);
    let all = json!({"hostNetwork": true, "hostIPC": true, "hostPID": true});
    assert_eq!(of(all.clone()), Namespaces::default());
    assert_eq!(of(json!({"hostNetwork": true})), Namespaces { network: false, ..own });
    let shared = Namespaces { pids: Pids::Pod, ..own };
    assert_eq!(of(json!({"shareProcessNamespace": true})), shared);
    let both = refusal(json!({"shareProcessNamespace": true, "hostPID": true}), json!({}));
    assert!(both.message.starts_with("spec.shareProcessNamespace: "), "{both}");
    // Less than was asked for is not run.
    let can_not = Surroundings { makes_namespaces: false, ..around() };
    let reason = pod_spec(&template(json!({"hostIPC": true}), json!({})), &can_not).unwrap_err();
    assert_eq!(reason.code, "NamespacesNotSupported");
    assert!(reason.message.ends_with("set hostNetwork, hostPID to true"), "{reason}");
    assert!(pod_spec(&template(all, json!({})), &can_not).is_ok());
}

#[test]
fn a_pod_with_its_own_network_is_at_loopback() {
    let address = |path| json!({"name": "A", "valueFrom": {"fieldRef": {"fieldPath": path}}});
    let of = |path, pod| {
        let env = parse(pod, json!({"env": [address(path)]})).unwrap().containers[0].env.clone();
        env.into_iter().find(|(name, _)| name == "A").unwrap().1
    };
    assert_eq!(of("status.podIP", json!({})), "127.0.0.1");
    assert_eq!(of("status.hostIP", json!({})), "10.0.0.5");
    assert_eq!(of("status.podIP", json!({"hostNetwork": true})), "10.0.0.5");
}

#[test]
fn a_pod_with_an_image_waits_for_a_runtime() {
    let content = template(json!({"runtimeClassName": null}), json!({"image": "nginx"}));
    assert_eq!(pod_spec(&content, &around()).unwrap_err().code, "ContainersNotSupported");
    assert_eq!(runtime_of(&content), Some("cri"));
    assert_eq!(runtime_of(&template(json!({}), json!({}))), Some("process"));
    assert_eq!(runtime_of(b"{"), None);
}

#[test]
fn a_process_needs_a_command() {
    assert_eq!(refusal(json!({}), json!({"command": null})).code, "InvalidTemplate");
    assert_eq!(refusal(json!({}), json!({"command": []})).code, "CommandRequired");
    assert_eq!(pod_spec(b"[]", &around()).unwrap_err().code, "InvalidTemplate");
}

#[test]
fn the_environment_is_the_kubelets() {
    let field = |path: &str| json!({"fieldRef": {"fieldPath": path}});
    let env = json!([
        {"name": "A", "value": "1"},
        {"name": "B", "value": "$(A)-$$(A)-$(Z)-$A-$("},
        {"name": "A", "value": "$(A)2"},
        {"name": "NODE", "valueFrom": field("spec.nodeName")},
        {"name": "NAME", "valueFrom": field("metadata.name")},
        {"name": "IP", "valueFrom": field("status.hostIP")},
        {"name": "NAMESPACE", "valueFrom": field("metadata.namespace")},
        {"name": "LABEL", "valueFrom": field("metadata.labels['app']")},
        {"name": "NOTE", "valueFrom": field("metadata.annotations['note']")},
        {"name": "NONE", "valueFrom": field("metadata.labels['none']")},
        {"name": "SITE", "valueFrom": field("node.labels['site']")},
        {"name": "NOWHERE", "valueFrom": field("node.labels['rack']")},
        {"name": "MAYBE", "valueFrom": {"configMapKeyRef": {"name": "m", "key": "k", "optional": true}}},
        {"name": "PATH", "value": "/bin"},
    ]);
    let container = json!({"env": env, "command": ["$(A)", "$$(A)"], "args": ["$(NODE)"]});
    let spec = parse(json!({}), container).unwrap();
    let container = &spec.containers[0];
    let get = |name: &str| {
        let mut found = container.env.iter().filter(|(known, _)| known == name);
        let value = found.next().map(|(_, value)| value.as_str());
        assert!(found.next().is_none(), "{name} twice");
        value
    };
    assert_eq!(get("A"), Some("12"));
    assert_eq!(get("B"), Some("1-$(A)-$(Z)-$A-$("));
    assert_eq!(get("NODE"), Some("edge-1"));
    assert_eq!((get("SITE"), get("NOWHERE")), (Some("lab"), Some("")));
    assert_eq!((get("NAME"), get("IP")), (Some("exporter-lwkkg"), Some("10.0.0.5")));
    assert_eq!(get("NAMESPACE"), Some("monitoring"));
    assert_eq!((get("LABEL"), get("NOTE"), get("NONE")), (Some("x"), Some("y"), Some("")));
    assert_eq!(get("MAYBE"), None);
    assert_eq!(get("PATH"), Some("/bin"));
    assert_eq!(container.argv, ["12", "$(A)", "edge-1"]);
}

#[test]
fn values_from_elsewhere_are_refused_by_path() {
    for from in [
        json!({"fieldRef": {"fieldPath": "status.podIPs"}}),
        json!({"fileKeyRef": {"resource": "limits.cpu"}}),
    ] {
        let reason = refusal(json!({}), json!({"env": [{"name": "A", "valueFrom": from}]}));
        assert_eq!(reason.code, "UnsupportedField");
        assert!(reason.message.starts_with("spec.containers[0].env[0].valueFrom."), "{reason}");
    }
}

/// A body that names these objects, and what it is read with.
fn with_config(
    container: Value,
    objects: &[(&str, &str, Option<Value>)],
) -> Result<PodSpec, Reason> {
    with_config_of(json!({}), container, objects)
}

fn with_config_of(
    pod: Value,
    container: Value,
    objects: &[(&str, &str, Option<Value>)],
) -> Result<PodSpec, Reason> {
    let mut body: Value = serde_json::from_slice(&template(pod, container)).unwrap();
    let mut around = around();
    let mut named = Vec::new();
    for (kind, name, content) in objects {
        let mut entry = json!({"kind": kind, "name": name});
        if let Some(content) = content {
            let blob = [[b'.'; 32].as_slice(), content.to_string().as_bytes()].concat();
            let digest = everynode_model::Digest::of(&blob);
            entry["blob"] = digest.to_string().into();
            around.contents.insert(digest, blob);
        }
        named.push(entry);
    }
    body["config"] = named.into();
    let body = body.to_string().into_bytes();
    let named: std::collections::BTreeSet<_> = blobs_of(&body).into_iter().collect();
    assert!(named.iter().eq(around.contents.keys()), "what is named is what is asked for");
    pod_spec(&body, &around)
}

fn key(kind: &str, name: &str, key: &str, optional: bool) -> Value {
    json!({"name": "A", "valueFrom": {kind: {"name": name, "key": key, "optional": optional}}})
}

#[test]
fn variables_come_from_config_maps_and_secrets() {
    let map = json!({"data": {"k": "$(B)", "l": "2"}, "binaryData": {"raw": "AA=="}});
    let secret = json!({"binaryData": {"k": "aHVudGVyMg=="}});
    let objects =
        [("ConfigMap", "m", Some(map)), ("Secret", "s", Some(secret)), ("ConfigMap", "o", None)];
    let container = json!({
        "envFrom": [
            {"prefix": "M_", "configMapRef": {"name": "m"}},
            {"configMapRef": {"name": "o", "optional": true}},
            {"secretRef": {"name": "s"}},
        ],
        "env": [
            {"name": "B", "value": "b"},
            key("configMapKeyRef", "m", "k", false),
            {"name": "k", "value": "$(M_l)"},
            {"name": "NONE", "valueFrom": {"secretKeyRef": {"name": "s", "key": "z", "optional": true}}},
        ],
    });
    let spec = with_config(container, &objects).unwrap();
    let env: Vec<String> =
        spec.containers[0].env[2..].iter().map(|(name, value)| format!("{name}={value}")).collect();
    // Values of objects are taken as they are; only the template's own are expanded.
    assert_eq!(env, ["M_k=$(B)", "M_l=2", "B=b", "A=$(B)", "k=2"]);
}

#[test]
fn what_is_not_there_is_told_in_the_kubelets_words() {
    let map =
        || [("ConfigMap", "m", Some(json!({"data": {"k": "1"}, "binaryData": {"raw": "AA=="}})))];
    let said = |env: Value, objects: &[(&str, &str, Option<Value>)]| {
        with_config(json!({"env": [env]}), objects).unwrap_err().to_string()
    };
    let config = "CreateContainerConfigError: ";
    let absent = [("ConfigMap", "m", None)];
    let needed = || key("configMapKeyRef", "m", "z", false);
    assert_eq!(said(needed(), &absent), format!("{config}configmap \"m\" not found"));
    let line = format!("{config}couldn't find key z in ConfigMap monitoring/m");
    assert_eq!(said(needed(), &map()), line);
    let raw = key("configMapKeyRef", "m", "raw", false);
    assert!(
        said(raw, &map()).contains("couldn't find key raw"),
        "bytes of a ConfigMap are no variables"
    );
    let from = json!({"envFrom": [{"secretRef": {"name": "s"}}]});
    let reason = with_config(from, &[]).unwrap_err();
    assert_eq!(reason.to_string(), format!("{config}secret \"s\" not found"));
    let secret = [("Secret", "s", Some(json!({"binaryData": {"k": "/w=="}})))];
    let bytes = said(key("secretKeyRef", "s", "k", false), &secret);
    assert_eq!(bytes, format!("{config}key k of Secret s is not text that a variable can have"));
}

#[test]
fn content_that_is_not_held_is_asked_for_again() {
    let mut body: Value = serde_json::from_slice(&template(json!({}), json!({}))).unwrap();
    body["config"] = json!([{"kind": "Secret", "name": "s", "blob": "ab".repeat(32)}]);
    let reason = pod_spec(body.to_string().as_bytes(), &around()).unwrap_err();
    assert_eq!(reason.code, "BodyMissing");
}

/// The files of the one volume of a template that reads these objects, as `path (mode): content`.
fn files_of(source: Value, objects: &[(&str, &str, Option<Value>)]) -> Result<Vec<String>, Reason> {
    let mut volume = json!({"name": "v"});
    merge(&mut volume, source);
    let container = json!({"volumeMounts": [{"name": "v", "mountPath": "/v"}]});
    let spec = with_config_of(json!({"volumes": [volume]}), container, objects)?;
    let [Volume { source: VolumeSource::Files(files), .. }] = spec.volumes.as_slice() else {
        panic!("a volume of files")
    };
    let line = |file: &VolumeFile| {
        format!("{} {:o} {}", file.path, file.mode, String::from_utf8_lossy(&file.content))
    };
    Ok(files.iter().map(line).collect())
}

#[test]
fn volumes_are_filled_with_what_the_revision_reads() {
    let map = json!({"data": {"k": "$(B)", "l": "2"}, "binaryData": {"raw": "AEE="}});
    let secret = json!({"binaryData": {"k": "aHVudGVyMg=="}});
    let objects =
        [("ConfigMap", "m", Some(map)), ("Secret", "s", Some(secret)), ("ConfigMap", "o", None)];
    let files = |source: Value| files_of(source, &objects).unwrap();
    let all = files(json!({"configMap": {"name": "m"}}));
    assert_eq!(all, ["k 644 $(B)", "l 644 2", "raw 644 \0A"]);
    let items = json!([{"key": "k", "path": "a/b", "mode": 256}, {"key": "raw", "path": "r"}]);
    let some = files(json!({"configMap": {"name": "m", "items": items, "defaultMode": 0o600}}));
    assert_eq!(some, ["a/b 400 $(B)", "r 600 \0A"]);
    assert_eq!(files(json!({"secret": {"secretName": "s"}})), ["k 644 hunter2"]);
    assert_eq!(files(json!({"configMap": {"name": "o", "optional": true}})), [""; 0]);
    let missing = json!([{"key": "z", "path": "z"}]);
    let optional = json!({"configMap": {"name": "m", "items": missing, "optional": true}});
    assert_eq!(files(optional), [""; 0]);
    let label = |path: &str| json!({"path": path, "fieldRef": {"fieldPath": "metadata.labels"}});
    let name = json!({"path": "n", "fieldRef": {"fieldPath": "metadata.name"}, "mode": 0});
    let projected = json!({"projected": {"defaultMode": 0o440, "sources": [
        {"configMap": {"name": "m", "items": [{"key": "l", "path": "x"}]}},
        {"secret": {"name": "s"}}, {"downwardAPI": {"items": [label("labels"), name]}}]}});
    let expected = ["k 440 hunter2", "labels 440 app=\"x\"", "n 0 exporter-lwkkg", "x 440 2"];
    assert_eq!(files(projected), expected);
    for (source, said) in [
        (json!({"configMap": {"name": "o"}}), "configmap \"o\" not found"),
        (json!({"secret": {"secretName": "t"}}), "secret \"t\" not found"),
        (
            json!({"configMap": {"name": "m", "items": missing}}),
            "references non-existent config key: z",
        ),
        (
            json!({"secret": {"secretName": "s", "items": missing}}),
            "references non-existent secret key: z",
        ),
    ] {
        let reason = files_of(source, &objects).unwrap_err();
        assert_eq!(reason.to_string(), format!("FailedMount: volume \"v\": {said}"));
    }
}

#[test]
fn what_nobody_mounts_need_not_be_there() {
    let volumes = json!({"volumes": [
        {"name": "a", "hostPath": {"path": "/nowhere", "type": "Directory"}},
        {"name": "b", "secret": {"secretName": "none"}},
        {"name": "c", "emptyDir": {}},
    ]});
    let mounts = json!({"volumeMounts": [{"name": "c", "mountPath": "/c"}]});
    let spec = with_config_of(volumes, mounts, &[]).unwrap();
    let names: Vec<&str> = spec.volumes.iter().map(|volume| volume.name.as_str()).collect();
    assert_eq!(names, ["c"]);
    // What no version of this agent knows is refused all the same.
    let unknown = json!({"volumes": [{"name": "a", "csi": {"driver": "d"}}]});
    assert_eq!(refusal(unknown, json!({})).code, "UnsupportedField");
}

#[test]
fn no_file_of_a_volume_is_outside_of_it() {
    let map = [("ConfigMap", "m", Some(json!({"data": {"k": "1"}})))];
    for path in ["../x", "a/../b", "/x", "", "..x", "a//b", "."] {
        let items = json!([{"key": "k", "path": path}]);
        let reason = files_of(json!({"configMap": {"name": "m", "items": items}}), &map);
        assert_eq!(reason.unwrap_err().code, "FailedMount", "{path:?}");
    }
}

#[test]
fn mounts_are_read_and_hosts_paths_too() {
    let pod = json!({"volumes": [
        {"name": "h", "hostPath": {"path": "srv", "type": "DirectoryOrCreate"}},
        {"name": "m", "emptyDir": {"medium": "Memory", "sizeLimit": "1048576"}}, {"name": "e"}]});
    let container = json!({
        "env": [{"name": "A", "value": "x"}],
        "volumeMounts": [
            {"name": "h", "mountPath": "/h", "readOnly": true, "mountPropagation": "HostToContainer"},
            {"name": "m", "mountPath": "m", "subPathExpr": "p/$(A)"},
            {"name": "e", "mountPath": "/e", "readOnly": true, "recursiveReadOnly": "Enabled",
                "subPath": "."},
        ],
    });
    let spec = parse(pod, container).unwrap();
    let sources: Vec<_> = spec.volumes.into_iter().map(|volume| volume.source).collect();
    let host = VolumeSource::HostPath("/srv".into(), HostPathKind::DirectoryOrCreate);
    assert_eq!(sources, [host, VolumeSource::Memory(Some(1 << 20)), VolumeSource::Disk]);
    let [h, m, e] = spec.containers[0].mounts.as_slice() else { panic!("three mounts") };
    assert_eq!((h.read_only, h.propagation), (ReadOnly::Top, Propagation::HostToContainer));
    assert_eq!(m.path, "/m", "relative paths begin at the root");
    assert_eq!((m.read_only, m.sub_path.as_deref()), (ReadOnly::No, Some("p/x")));
    assert_eq!((e.read_only, e.sub_path.as_deref()), (ReadOnly::Recursive, None));
}

#[test]
fn what_is_delivered_is_mounted_read_only() {
    let digest = "a".repeat(64);
    let image = |text: &str, policy: &str| {
        let reference = text.replace("DIGEST", &format!("sha256:{digest}"));
        json!({"volumes": [{"name": "v", "image": {"reference": reference, "pullPolicy": policy}}]})
    };
    let seen = |text: &str| {
        let mounts = json!({"volumeMounts": [{"name": "v", "mountPath": "/v", "subPath": "bin"}]});
        let spec = parse(image(text, "Always"), mounts).unwrap();
        assert_eq!(spec.containers[0].mounts[0].read_only, ReadOnly::Top);
        match &spec.volumes[0].source {
            VolumeSource::Artifact(source) => (source.directory.clone(), source.inside.clone()),
            other => panic!("{other:?}"),
        }
    };
    let whole = (format!("/store/{digest}"), None);
    assert_eq!(seen("https://h/x.tar.gz@DIGEST"), whole);
    assert_eq!(seen("quay.io/x:1@DIGEST"), whole);
    let arch = go_arch();
    let inside = (format!("/store/{digest}"), Some(format!("x-{arch}/y")));
    assert_eq!(seen(&format!("https://h/x.tgz#x-{{arch}}/y@{arch}=DIGEST")), inside);
    assert_eq!(seen("file:///srv/x#y@DIGEST"), (format!("/store/{digest}.y"), None));

    let refused = |text: &str| refusal(image(text, ""), json!({})).to_string();
    let path = "InvalidImageName: spec.volumes[0].image.reference: ";
    for (text, why) in [
        ("quay.io/X@DIGEST", "\"quay.io/X\" is no name of an image"),
        ("quay.io/x:1", "needs a digest"),
        ("https://h/x", "needs a digest"),
        ("https://h/x@other=DIGEST", "no digest for this node's architecture"),
    ] {
        let said = refused(text);
        assert!(said.starts_with(&format!("{path}{why}")), "{said}");
    }
    let delivered = |text: &str, policy: &str| {
        let delivered = artifacts_of(&template(image(text, policy), json!({})));
        delivered.iter().map(|one| one.may_be_fetched).collect::<Vec<_>>()
    };
    assert_eq!(delivered("https://h/x@DIGEST", "IfNotPresent"), [true]);
    assert_eq!(delivered("https://h/x@DIGEST", "Never"), [false]);
    assert_eq!(delivered("quay.io/x:1@DIGEST", ""), [true]);
    assert_eq!(delivered("quay.io/x:1", ""), [false; 0]);
}

#[test]
fn mounts_that_can_not_be_are_refused() {
    let said = |mount: Value| {
        let mut whole = json!({"name": "v", "mountPath": "/v"});
        merge(&mut whole, mount);
        let pod = json!({"volumes": [{"name": "v"}]});
        refusal(pod, json!({"volumeMounts": [whole]})).to_string()
    };
    for (mount, words) in [
        (json!({"mountPath": "/"}), "has the host's root"),
        (json!({"mountPath": "/a/../b"}), "must not contain '..'"),
        (json!({"subPath": "../b"}), "must be relative"),
        (json!({"subPathExpr": "$(NONE)"}), "missing value for \"NONE\""),
        (json!({"mountPropagation": "Bidirectional"}), "only to privileged"),
        (json!({"inventedNextYear": true}), "volumeMounts[0].inventedNextYear: "),
    ] {
        assert!(said(mount.clone()).contains(words), "{mount}");
    }
    let token = json!({"projected": {"sources": [{"serviceAccountToken": {"path": "t"}}]}});
    let reason = files_of(token, &[]).unwrap_err();
    let path = "spec.volumes[0].projected.sources[0].serviceAccountToken: ";
    assert!(reason.message.starts_with(path), "{reason}");
}
