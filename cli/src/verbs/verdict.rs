//! What becomes of a manifest here, as the coordinator says: a verdict that was asked for by
//! `--dry-run=server`, or warnings of a real `create`, `apply` or `replace`.

use everynode_manifest::{FieldPath, Warning};
use everynode_proto::v1::{Verdict, VerdictFinding};

use crate::files::Manifest;
use crate::out::Out;

/// Tells each reason with its place in the file. What admission has warned of already is not told
/// again, but where the verdict itself was `asked` for, it is whole.
pub(super) fn tell(verdict: &Verdict, manifest: &Manifest, asked: bool, out: &mut Out) {
    let document = &manifest.document;
    if asked {
        let (kind, name) = (document.kind.to_lowercase(), &document.name);
        out.note(format!("{kind}.apps/{name}: {}", words(&verdict.outcome, verdict.containers)));
    }
    for finding in &verdict.findings {
        let path: FieldPath = finding.field.parse().unwrap_or_default();
        let warned = manifest.warnings.iter().any(|told| told.path == path);
        if asked || !warned || finding.outcome != "RunsWithout" {
            let warning = Warning { path, message: message(finding) };
            out.note(document.explain_warning(&warning));
        }
    }
}

fn words(outcome: &str, containers: bool) -> String {
    let once = if containers { ", on a node that runs containers" } else { "" };
    match outcome {
        "Runs" => format!("runs{once}"),
        "RunsWithout" => format!("runs{once}, without what is told below"),
        "CannotRunHere" => "cannot run here, for what is told below".into(),
        // Of a later coordinator.
        other => other.into(),
    }
}

fn message(finding: &VerdictFinding) -> String {
    let said = match finding.outcome.as_str() {
        "RunsWithout" => "runs without",
        "CannotRunHere" => "cannot run here",
        other => other,
    };
    format!("{said}: {}", finding.reason)
}

#[cfg(test)]
mod tests {
    use everynode_manifest::read;

    use super::*;
    use crate::out::testing::captured;

    const FIELD: &str = "spec.template.spec.serviceAccountName";

    fn told(asked: bool, outcome: &str, warnings: Vec<Warning>) -> String {
        let text = "kind: DaemonSet\nmetadata: {name: x}\nspec: {template: {spec: {\n\
                    serviceAccountName: y}}}\n";
        let document = read("f.yaml", text.as_bytes()).unwrap().remove(0);
        let finding = VerdictFinding {
            field: FIELD.into(),
            outcome: outcome.into(),
            code: "KubernetesApi".into(),
            reason: "no API".into(),
        };
        let outcome = outcome.into();
        let verdict = Verdict { outcome, findings: vec![finding], containers: true };
        let (mut out, _, notes) = captured();
        tell(&verdict, &Manifest { document, warnings }, asked, &mut out);
        notes.text()
    }

    fn warned() -> Vec<Warning> {
        vec![Warning { path: FieldPath::fields(FIELD), message: "said".into() }]
    }

    #[test]
    fn a_verdict_that_was_asked_for_is_whole() {
        assert_eq!(
            told(true, "RunsWithout", warned()),
            format!(
                "daemonset.apps/x: runs, on a node that runs containers, without what is told below\n\
                 f.yaml:4:1: Warning: {FIELD}: runs without: no API\n"
            )
        );
    }

    #[test]
    fn a_real_apply_warns_once_of_what_is_lacking_and_always_of_what_can_not_run() {
        let line = |said| format!("f.yaml:4:1: Warning: {FIELD}: {said}: no API\n");
        assert_eq!(told(false, "RunsWithout", Vec::new()), line("runs without"));
        assert_eq!(told(false, "RunsWithout", warned()), "");
        assert_eq!(told(false, "CannotRunHere", warned()), line("cannot run here"));
    }
}
