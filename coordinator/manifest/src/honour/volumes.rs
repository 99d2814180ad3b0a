//! What the process runtime makes of a volume: each kind is a feature of its own, so that an agent
//! which does not know one leaves the pod Pending.
//!
//! Whether anybody mounts it or not: as in Kubernetes, no container starts while one is lacking.

use everynode_model::ArtifactReference;
use serde_json::Value;

use super::Word;
use crate::FieldPath;

/// Whether a template of processes has images of a registry delivered: what is no file's address.
pub(super) fn have_images(template: &Value) -> bool {
    let volumes = template["spec"]["volumes"].as_array().into_iter().flatten();
    let mut references = volumes.filter_map(|volume| volume["image"]["reference"].as_str());
    references.any(|text| ArtifactReference::parse(text).is_ok_and(|it| it.is_image()))
}

/// The words on one volume of a template in its normal form.
pub(super) fn each_word(
    volume: &Value,
    path: &FieldPath,
    note: &mut impl FnMut(&FieldPath, Word<'_>),
) {
    let kinds = volume.as_object().into_iter().flatten().filter(|(kind, _)| *kind != "name");
    let mut kinds = kinds.peekable();
    if kinds.peek().is_none() {
        // Kubernetes' default.
        note(path, Word::Needs("volumes.emptyDir"));
    }
    for (kind, source) in kinds {
        let path = path.field(kind);
        match kind.as_str() {
            "downwardAPI" => of_fields(source, &path, "volumes.downwardAPI", note),
            "emptyDir" => empty_dir(source, &path, note),
            "projected" => projected(source, &path, note),
            kind => note(&path, Word::Needs(&format!("volumes.{kind}"))),
        }
    }
}

fn empty_dir(source: &Value, path: &FieldPath, note: &mut impl FnMut(&FieldPath, Word<'_>)) {
    note(path, Word::Needs("volumes.emptyDir"));
    if !matches!(source["medium"].as_str(), None | Some("Memory")) {
        note(&path.field("medium"), Word::Needs("volumes.emptyDir.medium"));
    }
}

/// A source of what is the API's alone has a feature by its name.
fn projected(source: &Value, path: &FieldPath, note: &mut impl FnMut(&FieldPath, Word<'_>)) {
    const FEATURE: &str = "volumes.projected";
    note(path, Word::Needs(FEATURE));
    for (index, source) in source["sources"].as_array().into_iter().flatten().enumerate() {
        let path = path.field("sources").index(index);
        for (kind, source) in source.as_object().into_iter().flatten() {
            let path = path.field(kind);
            match kind.as_str() {
                "configMap" | "secret" => {}
                "downwardAPI" => of_fields(source, &path, FEATURE, note),
                kind => note(&path, Word::Needs(&format!("volumes.{kind}"))),
            }
        }
    }
}

fn of_fields(
    source: &Value,
    path: &FieldPath,
    feature: &str,
    note: &mut impl FnMut(&FieldPath, Word<'_>),
) {
    note(path, Word::Needs(feature));
    for (index, item) in source["items"].as_array().into_iter().flatten().enumerate() {
        if !item["resourceFieldRef"].is_null() {
            let path = path.field("items").index(index).field("resourceFieldRef");
            note(&path, Word::Needs("volumes.resourceFieldRef"));
        }
    }
}
