//! The objects of one command: DaemonSets and what they read are put together, in one transaction, so
//! that a change of several is one rollout and never half there.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use super::apply::{Step, overtaken, step};
use super::change::TRIES;
use super::create::Way;
use crate::connect::Client;
use crate::error::{Error, Refusal};
use crate::files::Manifest;
use crate::kinds::{Kind as _, Mode, Namespaces, Resource, Written, put_together, text};

/// The most objects that one transaction takes.
const MOST: usize = 100;

/// Objects, each with the manifest that it comes from, if it comes from one; namespaces first.
pub(super) struct Batch<'a> {
    way: Way,
    objects: Vec<(Option<&'a Manifest>, Value)>,
}

impl<'a> Batch<'a> {
    /// The objects of these manifests.
    pub(super) fn new(way: Way, manifests: &'a [Manifest], objects: Vec<Value>) -> Self {
        let mut objects: Vec<_> = manifests.iter().map(Some).zip(objects).collect();
        objects.sort_by_key(|(_, object)| text(object, "/kind") != "Namespace");
        Self { way, objects }
    }

    /// Adds the namespaces that the objects are in and that are not there.
    pub(super) async fn add_namespaces(&mut self, client: &Client) -> Result<(), Error> {
        let kind = |object: &Value, kind: &str| text(object, "/kind") == kind;
        let own = self.objects.iter().filter(|(_, object)| kind(object, "Namespace"));
        let own: BTreeSet<String> =
            own.map(|(_, object)| text(object, "/metadata/name").to_owned()).collect();
        let named = self.objects.iter().map(|(_, object)| text(object, "/metadata/namespace"));
        let wanted: BTreeSet<String> = named.map(str::to_owned).collect();
        for name in wanted.difference(&own).filter(|name| !name.is_empty()) {
            match Namespaces::get(client, "", name).await {
                Ok(_) => {}
                Err(error) if error.is_not_found() => {
                    let namespace = json!({"apiVersion": "v1", "kind": "Namespace",
                                           "metadata": {"name": name}});
                    self.objects.insert(0, (None, namespace));
                }
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// Whether they are several and not DaemonSets alone, of which each is for itself.
    pub(super) fn belongs_together(&self) -> bool {
        let sets = self.objects.iter().all(|(_, object)| text(object, "/kind") == "DaemonSet");
        self.objects.len() > 1 && self.objects.len() <= MOST && !sets
    }

    /// The manifests, in the order in which the objects are put.
    pub(super) fn manifests(&self) -> impl Iterator<Item = Option<&'a Manifest>> {
        self.objects.iter().map(|(manifest, _)| *manifest)
    }

    /// All of them, what others read before those who read it.
    pub(super) fn one_by_one(&self) -> impl Iterator<Item = (Option<&'a Manifest>, &Value)> {
        let mut all: Vec<_> = self.objects.iter().collect();
        if self.belongs_together() {
            all.sort_by_key(|(_, object)| text(object, "/kind") == "DaemonSet");
        }
        all.into_iter().map(|(manifest, object)| (*manifest, object))
    }

    /// Puts all of them, or none; nothing comes of it where they fit no transaction.
    pub(super) async fn put(
        &self,
        client: &Client,
        dry_run: bool,
    ) -> Result<Option<Vec<Written>>, Error> {
        let mut tries = 1;
        loop {
            let steps = self.steps(client).await?;
            let insists = steps.iter().any(|step| step.insists);
            let objects: Vec<_> =
                steps.iter().map(|step| (step.kind, step.mode, step.next.clone())).collect();
            match put_together(client, &objects, dry_run).await {
                Ok(mut written) => {
                    for (written, step) in written.iter_mut().zip(steps) {
                        written.warnings.extend(step.warning);
                    }
                    return Ok(Some(written));
                }
                Err(Error::Refused(refusal)) if is_too_large(&refusal) => return Ok(None),
                Err(error) if !insists && tries < TRIES && self.was_overtaken(&error) => tries += 1,
                Err(error) => return Err(error),
            }
        }
    }

    /// The manifest that a refusal is about.
    pub(super) fn blamed(&self, refusal: &Refusal) -> Option<&'a Manifest> {
        let quoted = |manifest: &&Manifest| {
            let document = &manifest.document;
            let (kind, name) = (&document.kind, &document.name);
            refusal.message.contains(&format!("{kind} {name:?}"))
                || refusal.message.contains(&format!("{kind}.apps {name:?}"))
        };
        self.manifests().flatten().find(quoted)
    }

    async fn steps(&self, client: &Client) -> Result<Vec<Step>, Error> {
        let mut steps = Vec::new();
        for (manifest, object) in &self.objects {
            let of_file = manifest.is_some();
            steps.push(match self.way {
                Way::Apply if of_file => step(client, object).await?,
                way => Step {
                    kind: Resource::of(object)?,
                    mode: if way == Way::Replace && of_file { Mode::Replace } else { Mode::Create },
                    next: object.clone(),
                    insists: false,
                    warning: None,
                },
            });
        }
        Ok(steps)
    }

    /// Whether something came, changed or went in between.
    fn was_overtaken(&self, error: &Error) -> bool {
        self.way == Way::Apply
            && (overtaken(error, Mode::Create) || overtaken(error, Mode::Replace))
    }
}

fn is_too_large(refusal: &Refusal) -> bool {
    matches!(refusal.reason.as_str(), "TooLarge" | "TooMany")
}
