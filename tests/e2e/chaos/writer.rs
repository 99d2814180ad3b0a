//! Changes what is to run, without a pause, and keeps account of what was acknowledged.
//!
//! ```text
//!   sent ── acknowledged ──▶ it is so, until it is changed again
//!    ├──── refused ────────▶ it is as it was, and the refusal says how that is
//!    └──── no answer ──────▶ either way
//! ```
//!
//! What is read in between must be something that the account allows.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsString;
use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};

use everynode_agent::random::Random;
use everynode_tests::manifests::WITNESS_PROGRAM;
use everynode_tests::said::Said;
use everynode_tests::{Fleet, Outcome, ensure, failure, wait};
use serde_json::Value;

use super::NODES;
use super::sets::{self, CHURN, EXPORTER_SET, LIMITED, MEMORY, Maker, SETTINGS, STEADY, TUNING};

/// Where all sets are.
pub(crate) const NAMESPACE: &str = "default";
/// Which nodes a set may be for; all without.
const TIERS: [Option<&str>; 4] = [None, None, Some("a"), Some("b")];
/// How long an answer is waited for: many times what a busy machine takes.
const PATIENCE: &str = "5s";

/// What a set is to be.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Content {
    mark: String,
    tier: Option<String>,
}

/// Something to ask for.
#[derive(Debug)]
enum Change {
    Apply(&'static str, Content),
    /// Only the memory that a set's pods may have, to so many MiB.
    Limit(&'static str, u64),
    /// The ConfigMap that is changed alone, to this mark.
    Tune(String),
    Create(&'static str, Content),
    Delete(&'static str),
    Label(String, &'static str),
    DeletePod(&'static str, String),
}

/// See the module.
pub(crate) struct Writer {
    /// The command line tool on the coordinator's machine, as its first words.
    tool: Vec<OsString>,
    witness: PathBuf,
    dir: PathBuf,
    random: Random,
    marks: u64,
    /// What each set may be.
    sets: BTreeMap<&'static str, BTreeSet<Option<Content>>>,
    /// What the ConfigMap that is changed alone may have; nothing where it is not there.
    tunings: BTreeSet<Option<String>>,
    /// What each node's label may be.
    labels: BTreeMap<String, BTreeSet<String>>,
    /// Pods whose end was acknowledged.
    doomed: BTreeSet<String>,
    acknowledged: u64,
    refused: u64,
    unanswered: u64,
    reads: u64,
}

impl Writer {
    /// A writer that has written nothing.
    ///
    /// # Errors
    /// When the witnesses' directories can't be made.
    pub(crate) fn new(fleet: &Fleet<'_>, random: Random) -> Outcome<Self> {
        for dir in Self::witness_dirs(fleet) {
            fs::create_dir_all(dir)?;
        }
        let tool = fleet.coordinator().tool_command(&["--request-timeout", PATIENCE]);
        let words = std::iter::once(tool.get_program()).chain(tool.get_args());
        Ok(Self {
            tool: words.map(ToOwned::to_owned).collect(),
            witness: fleet.program(WITNESS_PROGRAM),
            dir: fleet.path(""),
            random,
            marks: 0,
            sets: sets::all().map(|set| (set, BTreeSet::from([None]))).collect(),
            tunings: BTreeSet::from([None]),
            labels: BTreeMap::new(),
            doomed: BTreeSet::new(),
            acknowledged: 0,
            refused: 0,
            unanswered: 0,
            reads: 0,
        })
    }

    /// Where the witnesses of each set write.
    pub(crate) fn witness_dirs(fleet: &Fleet<'_>) -> Vec<PathBuf> {
        let sets = sets::all().filter(|set| *set != EXPORTER_SET);
        sets.map(|set| witness_dir(&fleet.path(""), set)).collect()
    }

    /// The mark of what each set is now.
    pub(crate) fn mark(&self, set: &str) -> Outcome<&str> {
        let may_be = self.sets.get(set).into_iter().flatten().flatten();
        match may_be.map(|content| content.mark.as_str()).collect::<Vec<_>>()[..] {
            [mark] => Ok(mark),
            ref marks => Err(failure!("{set} may be {marks:?}")),
        }
    }

    /// What the ConfigMap that is changed alone has now.
    pub(crate) fn tuning(&self) -> Outcome<&str> {
        match self.tunings.iter().flatten().collect::<Vec<_>>()[..] {
            [mark] => Ok(mark),
            ref marks => Err(failure!("{TUNING} may have {marks:?}")),
        }
    }

    /// Pods whose end was acknowledged.
    pub(crate) fn doomed(&self) -> &BTreeSet<String> {
        &self.doomed
    }

    /// Writes until it is over.
    ///
    /// # Errors
    /// When something is read that can't be, or refused that may not.
    pub(crate) fn write_until(&mut self, over: &AtomicBool) -> Outcome {
        while !over.load(Ordering::Acquire) {
            let change = self.any_change();
            if self.random.next_u64().is_multiple_of(3) {
                self.read()?;
            }
            self.ask(&change)?;
        }
        Ok(())
    }

    /// Every set is there, for all nodes, and made of something new, so that no back-off is left of
    /// what was there before.
    ///
    /// # Errors
    /// When it is not taken in time.
    pub(crate) fn settle(&mut self) -> Outcome {
        wait::soon("the account agrees with what is read", || {
            let before = self.reads;
            self.read()?;
            ensure!(self.reads > before, "nothing can be read");
            Ok(())
        })?;
        let mut changes = vec![Change::Tune(self.next_mark())];
        for set in sets::all() {
            let content = Content { mark: self.next_mark(), tier: None };
            changes.push(Change::Apply(set, content));
        }
        for change in changes {
            wait::soon("a change is acknowledged", || {
                let before = self.acknowledged;
                self.ask(&change)?;
                ensure!(self.acknowledged > before, "{change:?} can't be applied");
                Ok(())
            })?;
        }
        Ok(())
    }

    /// Reads all sets and nodes, and compares them with the account.
    fn read(&mut self) -> Outcome {
        let sets = self.run(&["get", "daemonsets", "-o", "json"])?;
        let nodes = self.run(&["get", "nodes", "-o", "json"])?;
        let maps = self.run(&["get", "configmaps", "-o", "json"])?;
        // The coordinator may be dead.
        let (Ok(sets), Ok(nodes), Ok(maps)) = (sets.json(), nodes.json(), maps.json()) else {
            return Ok(());
        };
        self.reads += 1;
        for (set, may_be) in &self.sets {
            let item = items(&sets).find(|item| item["metadata"]["name"] == *set);
            let is = item.map(Content::of);
            ensure!(may_be.contains(&is), "{set} is {is:?} and should be one of {may_be:?}");
        }
        let data = |name: &str| {
            let map = items(&maps).find(|item| item["metadata"]["name"] == name);
            map.and_then(|map| text(&map["data"]["mark"]))
        };
        let steady = self.sets.get(STEADY).into_iter().flatten();
        let steady = steady.map(|set| set.as_ref().map(|content| content.mark.clone()));
        for (map, may_be) in [(SETTINGS, &steady.collect()), (TUNING, &self.tunings)] {
            let is = data(map);
            ensure!(may_be.contains(&is), "{map} has {is:?} and should have one of {may_be:?}");
        }
        for (node, may_be) in &self.labels {
            let Some(item) = items(&nodes).find(|item| item["metadata"]["name"] == **node) else {
                return Err(failure!("node {node} is not there"));
            };
            let is = text(&item["metadata"]["labels"]["tier"]).unwrap_or_default();
            ensure!(may_be.contains(&is), "{node} is {is:?} and should be one of {may_be:?}");
        }
        Ok(())
    }

    fn any_change(&mut self) -> Change {
        let content = Content {
            mark: self.next_mark(),
            tier: TIERS[self.draw(TIERS.len())].map(str::to_owned),
        };
        let for_all = Content { tier: None, ..content.clone() };
        let churn = CHURN[self.draw(CHURN.len())];
        let node = format!("n{}", 1 + self.draw(NODES.into()));
        match self.draw(20) {
            0..=4 => Change::Apply(churn, content),
            5..=6 => Change::Create(churn, content),
            7..=9 => Change::Delete(churn),
            10..=11 => Change::Label(node, TIERS[2 + self.draw(2)].unwrap_or_default()),
            12 => Change::DeletePod(churn, node),
            13 => Change::DeletePod([STEADY, EXPORTER_SET][self.draw(2)], node),
            14..=15 => Change::Apply(STEADY, for_all),
            16 => Change::Tune(for_all.mark),
            17..=18 => Change::Limit(LIMITED[self.draw(3)], [MEMORY, 160, 192][self.draw(3)]),
            _ => Change::Apply(EXPORTER_SET, for_all),
        }
    }

    fn ask(&mut self, change: &Change) -> Outcome {
        match change {
            Change::Apply(set, content) => {
                let file = self.manifest(set, content, MEMORY)?;
                let said = self.run(&["apply", "-f", &file])?;
                self.note_set(set, Some(content.clone()), &said, "")
            }
            Change::Limit(set, memory) => {
                // What it is in the rest has to be known.
                let may_be: Vec<_> = self.sets.get(set).into_iter().flatten().collect();
                let [Some(content)] = may_be[..] else { return Ok(()) };
                let content = content.clone();
                let file = self.manifest(set, &content, *memory)?;
                let said = self.run(&["apply", "-f", &file])?;
                self.note_set(set, Some(content), &said, "")
            }
            Change::Tune(mark) => {
                let file = self.file(&sets::tuning(mark))?;
                let said = self.run(&["apply", "-f", &file])?;
                let done = self.answered(&said);
                note(&mut self.tunings, done, Some(mark.clone()));
                Ok(())
            }
            Change::Create(set, content) => {
                let file = self.manifest(set, content, MEMORY)?;
                // Else a later `apply` could not know what of it to take away, as with kubectl.
                let said = self.run(&["create", "--save-config", "-f", &file])?;
                self.note_set(set, Some(content.clone()), &said, "(AlreadyExists)")
            }
            Change::Delete(set) => {
                let said = self.run(&["delete", "daemonset", set, "--wait=false"])?;
                self.note_set(set, None, &said, "(NotFound)")
            }
            Change::Label(node, tier) => {
                let label = format!("tier={tier}");
                let said = self.run(&["label", "nodes", node, &label, "--overwrite"])?;
                let done = self.answered(&said);
                let may_be =
                    self.labels.entry(node.clone()).or_insert_with(|| [String::new()].into());
                note(may_be, done, (*tier).to_owned());
                Ok(())
            }
            Change::DeletePod(set, node) => self.delete_pod(set, node),
        }
    }

    /// Keeps account of a set that was to become `content`; `no` is in a refusal that says how it is.
    fn note_set(
        &mut self,
        set: &'static str,
        content: Option<Content>,
        said: &Said,
        no: &str,
    ) -> Outcome {
        let done = self.answered(said);
        let may_be = self.sets.entry(set).or_default();
        if !done && !no.is_empty() && said.err.contains(no) {
            self.refused += 1;
            self.unanswered -= 1;
            may_be.retain(|may_be| may_be.is_some() == content.is_some());
            ensure!(!may_be.is_empty(), "{set} was acknowledged otherwise: {said}");
        } else {
            note(may_be, done, content);
        }
        Ok(())
    }

    fn delete_pod(&mut self, set: &str, node: &str) -> Outcome {
        let Ok(pods) = self.run(&["get", "pods", "-o", "json"])?.json() else { return Ok(()) };
        let of = |pod: &&Value| {
            let name = text(&pod["metadata"]["name"]).unwrap_or_default();
            let uid = text(&pod["metadata"]["uid"]).unwrap_or_default();
            pod["spec"]["nodeName"] == node && name.starts_with(set) && !uid.is_empty()
        };
        let Some(pod) = items(&pods).find(of) else { return Ok(()) };
        let (name, uid) = (text(&pod["metadata"]["name"]), text(&pod["metadata"]["uid"]));
        let said = self.run(&["delete", "pod", &name.unwrap_or_default(), "--wait=false"])?;
        if self.answered(&said) {
            self.doomed.extend(uid);
        }
        Ok(())
    }

    fn answered(&mut self, said: &Said) -> bool {
        let done = said.code == Some(0);
        self.acknowledged += u64::from(done);
        self.unanswered += u64::from(!done);
        done
    }

    fn run(&self, words: &[&str]) -> Outcome<Said> {
        let mut command = Command::new(&self.tool[0]);
        command.args(&self.tool[1..]).args(words);
        command.env_clear().env("PATH", std::env::var_os("PATH").unwrap_or_default());
        let said = Said::by(command)?;
        ensure!(!said.err.contains("panicked"), "a panic: {said}");
        Ok(said)
    }

    fn manifest(&self, set: &str, content: &Content, memory: u64) -> Outcome<String> {
        let Content { mark, tier } = content;
        let dir = witness_dir(&self.dir, set);
        let tier = tier.as_deref();
        let maker = Maker { witness: &self.witness, dir, set, mark, tier, memory };
        self.file(&maker.manifest())
    }

    fn file(&self, text: &str) -> Outcome<String> {
        let file = self.dir.join("change.yaml");
        fs::write(&file, text)?;
        Ok(file.display().to_string())
    }

    fn next_mark(&mut self) -> String {
        self.marks += 1;
        format!("m{}", self.marks)
    }

    fn draw(&mut self, limit: usize) -> usize {
        let drawn = self.random.next_u64() % u64::try_from(limit.max(1)).unwrap_or(1);
        usize::try_from(drawn).unwrap_or_default()
    }
}

impl Content {
    /// What a set is, by its object.
    fn of(item: &Value) -> Self {
        let template = &item["spec"]["template"];
        Self {
            mark: text(&template["metadata"]["labels"]["mark"]).unwrap_or_default(),
            tier: text(&template["spec"]["nodeSelector"]["tier"]),
        }
    }
}

impl fmt::Display for Writer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { acknowledged, refused, unanswered, reads, .. } = self;
        write!(f, "{acknowledged} changes acknowledged, {refused} refused, ")?;
        write!(f, "{unanswered} without an answer, {reads} reads compared")
    }
}

/// What something may be, after it was to become this: nothing else, once that is acknowledged.
fn note<T: Ord>(may_be: &mut BTreeSet<T>, acknowledged: bool, becomes: T) {
    if acknowledged {
        may_be.clear();
    }
    may_be.insert(becomes);
}

/// The steady one writes where the fleet's own witness does, which is looked at in any case.
fn witness_dir(fleet: &Path, set: &str) -> PathBuf {
    match set {
        STEADY => fleet.join("witness"),
        set => fleet.join(format!("witness-{set}")),
    }
}

fn items(list: &Value) -> impl Iterator<Item = &Value> {
    list["items"].as_array().into_iter().flatten()
}

fn text(value: &Value) -> Option<String> {
    value.as_str().map(str::to_owned)
}
