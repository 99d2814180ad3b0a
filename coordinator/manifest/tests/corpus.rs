//! Manifests that real projects publish: every file is read, and every DaemonSet admitted.

#![allow(clippy::unwrap_used, clippy::panic, clippy::print_stdout, reason = "helpers of tests")]

mod common;

use everynode_manifest::{Rejected, admit, needed_features, normal_form, read};

fn manifests() -> Vec<(String, Vec<u8>)> {
    common::corpus().unwrap_or_default()
}

#[test]
fn every_file_is_read_and_every_daemon_set_is_admitted() {
    let mut admitted = 0;
    let mut refused = Vec::new();
    for (file, bytes) in manifests() {
        let documents = read(&file, &bytes).unwrap_or_else(|error| panic!("{error}"));
        for document in documents {
            match admit(&document.value) {
                Ok(set) => {
                    admitted += 1;
                    let again = admit(&set.object).unwrap();
                    assert_eq!(again.object, set.object, "{file}: the canonical form is stable");
                    assert_eq!(again.revision, set.revision, "{file}");
                    let written = normal_form(&document.value["spec"]["template"]);
                    assert!(written == set.body, "{file}: defaults change no revision");
                    let features = needed_features(&set.object["spec"]["template"]);
                    println!(
                        "{file}: {} admitted, {} warnings, needs {features:?}",
                        set.key,
                        set.warnings.len()
                    );
                }
                Err(Rejected::OtherKind { .. }) => {}
                Err(rejected) => {
                    println!("{}\n", document.explain(&rejected));
                    let paths = rejected.errors().iter().map(|error| error.path.to_string());
                    refused.extend(paths.map(|path| (file.clone(), path)));
                }
            }
        }
    }
    println!("{admitted} DaemonSets admitted");
    // All of them run on Kubernetes, so a rule that refuses one is wrong.
    assert!(refused.is_empty(), "{refused:#?}");
}

#[test]
fn well_known_ones_are_admitted() {
    for (file, bytes) in manifests() {
        let known = [
            "kube-prometheus-node-exporter.yaml",
            "fluent-bit-elasticsearch.yaml",
            "068-kube-flannel.yaml",
        ];
        if known.iter().any(|name| file.ends_with(name)) {
            let documents = read(&file, &bytes).unwrap();
            let sets: Vec<_> =
                documents.iter().filter(|document| document.kind == "DaemonSet").collect();
            assert!(!sets.is_empty(), "{file}");
            for set in sets {
                admit(&set.value).unwrap_or_else(|rejected| panic!("{}", set.explain(&rejected)));
            }
        }
    }
}

#[test]
fn the_definition_that_the_project_began_with_is_admitted() {
    let Some(folder) = common::corpus_folder() else { return };
    let Ok(bytes) = std::fs::read(folder.join("../seed/daemon-set-definition.yaml")) else {
        return println!("skipped: no definition beside the corpus");
    };
    let documents = read("daemon-set-definition.yaml", &bytes).unwrap();
    assert_eq!(documents.len(), 1);
    assert_eq!(admit(&documents[0].value).unwrap().warnings, []);
}
