//! What Everynode adds: pods whose containers are processes of the host.

use everynode_model::{
    ArtifactReference, PIDS_LIMIT, REQUIRE_LIMITS, RESTART_BACKOFF, RESTART_BACKOFF_MAX,
    restart_waits,
};
use k8s_openapi::api::core::v1::{Container, PodSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

use super::{PROCESS, host_ports};
use crate::FieldPath;
use crate::check::Check;

/// Whether the pod's containers are processes of the host.
pub(crate) fn is_process(pod: &PodSpec) -> bool {
    pod.runtime_class_name.as_deref() == Some(PROCESS)
}

/// Checks what the pod as a whole says of its runtime.
pub(super) fn check_pod(check: &mut Check, path: &FieldPath, pod: &PodSpec) {
    if !is_process(pod) {
        return;
    }
    if pod.host_network != Some(true) {
        let message = "its pods have loopback alone, as there is no pod network: to use the \
                       machine's, set `hostNetwork: true`";
        check.warn(path.field("hostNetwork"), message);
        for (index, container) in pod.containers.iter().enumerate() {
            for (path, ..) in host_ports(&path.field("containers").index(index), container) {
                check.warn(path, "not forwarded: there is no pod network; set `hostNetwork: true`");
            }
        }
    }
    check_artifacts(check, &path.field("volumes"), pod);
}

/// Checks what is delivered to host processes: what a revision names is fixed by a digest.
fn check_artifacts(check: &mut Check, path: &FieldPath, pod: &PodSpec) {
    for (index, volume) in pod.volumes.iter().flatten().enumerate() {
        let Some(image) = &volume.image else { continue };
        let path = path.index(index).down("image.reference");
        match image.reference.as_deref().unwrap_or_default() {
            "" => check.required(
                path,
                "`https://HOST/PATH@sha256:HEX`, the same of `file://`, or \
                 `REGISTRY/REPOSITORY@sha256:HEX`",
            ),
            text => {
                if let Err(error) = ArtifactReference::parse(text) {
                    check.invalid(path, text, error.to_string());
                }
            }
        }
    }
}

/// Checks the annotations of a template that speak of its limits and its restarts.
pub(super) fn check_annotations(check: &mut Check, path: &FieldPath, metadata: &ObjectMeta) {
    let annotations = metadata.annotations.iter().flatten();
    for (key, value) in annotations {
        match (key.as_str(), value.as_str()) {
            (REQUIRE_LIMITS, "true" | "false") => {}
            (REQUIRE_LIMITS, _) => {
                check.invalid(path.key(key), value.as_str(), "must be \"true\" or \"false\"");
            }
            (PIDS_LIMIT, text) if !text.parse::<u64>().is_ok_and(|most| most > 0) => {
                check.invalid(path.key(key), text, "must be a positive number");
            }
            _ => {}
        }
    }
    let said = |key| metadata.annotations.as_ref()?.get(key).map(String::as_str);
    let waits = [RESTART_BACKOFF, RESTART_BACKOFF_MAX].map(|key| (key, said(key)));
    for ((key, text), wait) in waits.into_iter().zip(restart_waits(waits[0].1, waits[1].1)) {
        if let (Some(text), Err(error)) = (text, wait) {
            check.invalid(path.key(key), text, error.to_string());
        }
    }
}

/// Checks what is run: a program of the host, or an image.
pub(super) fn check_program(
    check: &mut Check,
    path: &FieldPath,
    container: &Container,
    process: bool,
) {
    let image = container.image.as_deref().unwrap_or_default();
    if process {
        if container.command.as_ref().is_none_or(|command| command.is_empty()) {
            check.required(
                path.field("command"),
                "a container of `runtimeClassName: process` is a program of the host: name it here",
            );
        }
        if !image.is_empty() {
            check.warn(
                path.field("image"),
                "not used: with `runtimeClassName: process` the command is run on the host",
            );
        }
        check_texts(check, path, container);
    } else if image.is_empty() {
        check.required(
            path.field("image"),
            "or, to run a program of the host, set \
             spec.template.spec.runtimeClassName: process and a command",
        );
    } else if image.trim() != image {
        // Kubernetes says so of each pod, when it is too late.
        check.invalid(path.field("image"), image, "must not have leading or trailing whitespace");
    }
}

/// Checks that what is handed to the program can be: the kernel ends its texts with a NUL.
fn check_texts(check: &mut Check, path: &FieldPath, container: &Container) {
    let mut texts = Vec::new();
    for (list, items) in [("command", &container.command), ("args", &container.args)] {
        let items = items.iter().flatten().enumerate();
        texts.extend(items.map(|(index, text)| (path.field(list).index(index), text)));
    }
    texts.extend(container.working_dir.iter().map(|text| (path.field("workingDir"), text)));
    for (index, variable) in container.env.iter().flatten().enumerate() {
        let path = path.field("env").index(index).field("value");
        texts.extend(variable.value.iter().map(|text| (path.clone(), text)));
    }
    for (path, text) in texts.into_iter().filter(|(_, text)| text.contains('\0')) {
        check.invalid(path, text.as_str(), "must not have a NUL character");
    }
}
