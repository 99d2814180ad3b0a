//! What becomes of a DaemonSet here: *runs*, *runs without*, *cannot run here*, *refused*, *skipped*.
//!
//! Most published DaemonSets were written for a machine that belongs to a Kubernetes cluster. The
//! verdict says, before anything is started, which of them lack what such a machine has, by facts
//! that the manifest itself shows, each at the field that shows it; what a program does inside is
//! not guessed at. Of a pod with images it says what a node with a container runtime would make of
//! it. It decides nothing: a DaemonSet that "cannot run here" is placed like any other.
//!
//! - [`kubernetes`]: who needs the Kubernetes API, a kubelet, a pod network or Windows.
//! - [`volumes`]: what volumes come from.
//! - [`runtime`]: fields that nobody acts on, by runtime.

mod kubernetes;
mod runtime;
mod volumes;

use std::fmt;

use k8s_openapi::api::apps::v1::DaemonSet;
use k8s_openapi::api::core::v1::{Container, PodSpec};

use crate::typed::read_typed;
use crate::{Admitted, ErrorKind, FieldPath, Rejected, validate};

/// What becomes of an object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verdict {
    /// All in all.
    pub outcome: Outcome,
    /// Each reason, by path; empty only where it [`Outcome::Runs`].
    pub findings: Vec<Finding>,
    /// Whether its pods are containers: no agent of this version runs any yet.
    pub containers: bool,
}

/// What becomes of an object, all in all.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Outcome {
    /// As written.
    Runs,
    /// It starts, and lacks something that it asks for.
    RunsWithout,
    /// It can't start, or can't do what it is for.
    CannotRunHere,
    /// The door does not let it in.
    Refused,
    /// No DaemonSet: passed over.
    Skipped,
}

/// One reason.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// The field that shows it.
    pub path: FieldPath,
    /// What it alone would make of the object.
    pub outcome: Outcome,
    /// What is lacking, as one word for programs: a [`Lack`], or the kind of a refusal.
    pub code: &'static str,
    /// Why, in one line, without a trailing dot.
    pub why: String,
}

/// What a Kubernetes cluster's machine has and an Everynode node has not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Lack {
    /// Kubernetes' API server, and service accounts with tokens for it.
    KubernetesApi,
    /// The kubelet, its directories and what it makes in them.
    Kubelet,
    /// The kubelet's registry of storage drivers (CSI, FlexVolume) and other plug-ins.
    KubeletPlugins,
    /// The kubelet's registry of devices, and the resources that come from it.
    DevicePlugins,
    /// Volumes that are claimed, or attached by a driver.
    PersistentVolumes,
    /// A network between pods, and plug-ins (CNI) that make it.
    PodNetwork,
    /// Services, and a DNS that knows them.
    Services,
    /// A scheduler that looks at more than where a pod belongs.
    Scheduler,
    /// Windows.
    Windows,
    /// A feature of the agent.
    Feature,
}

/// The verdict on an object that [`crate::admit()`] let in, or refused.
pub fn verdict(judged: Result<&Admitted, &Rejected>) -> Verdict {
    match judged {
        Ok(admitted) => of_admitted(admitted),
        Err(rejected) => of_rejected(rejected),
    }
}

fn of_admitted(admitted: &Admitted) -> Verdict {
    let set = read_typed::<DaemonSet>(&admitted.object).value.unwrap_or_default();
    let pod = set.spec.template.spec.unwrap_or_default();
    let mut findings = Findings::default();
    let at = FieldPath::fields("spec.template.spec");
    kubernetes::look(&mut findings, &at, &pod);
    volumes::look(&mut findings, &at, &pod);
    let process = validate::is_process(&pod);
    if process {
        let template = &admitted.object["spec"]["template"];
        runtime::of_processes(&mut findings, &at, &pod, template);
    } else {
        runtime::of_containers(&mut findings, &at, &pod);
    }
    findings.verdict(!process)
}

fn of_rejected(rejected: &Rejected) -> Verdict {
    let (outcome, findings) = match rejected {
        Rejected::OtherKind { .. } => {
            let (code, why) = ("OtherKind", rejected.to_string());
            let path = FieldPath::fields("kind");
            (Outcome::Skipped, vec![Finding { path, outcome: Outcome::Skipped, code, why }])
        }
        Rejected::Invalid { errors, .. } => {
            let refused = errors.iter().map(|error| Finding {
                path: error.place().clone(),
                outcome: Outcome::Refused,
                code: code_of(error.kind),
                why: error.to_string(),
            });
            (Outcome::Refused, refused.collect())
        }
    };
    Verdict { outcome, findings, containers: false }
}

/// As Kubernetes' `CauseType` calls it.
const fn code_of(kind: ErrorKind) -> &'static str {
    match kind {
        ErrorKind::Unknown => "FieldValueUnknown",
        ErrorKind::Type => "FieldValueTypeInvalid",
        ErrorKind::Required => "FieldValueRequired",
        ErrorKind::Invalid => "FieldValueInvalid",
        ErrorKind::Unsupported => "FieldValueNotSupported",
        ErrorKind::Forbidden => "FieldValueForbidden",
        ErrorKind::Duplicate => "FieldValueDuplicate",
        ErrorKind::NotFound => "FieldValueNotFound",
        ErrorKind::TooLong => "FieldValueTooLong",
    }
}

/// Findings so far.
#[derive(Default)]
struct Findings(Vec<Finding>);

impl Findings {
    /// It starts without this.
    fn without(&mut self, path: FieldPath, lack: Lack, why: impl Into<String>) {
        self.push(path, Outcome::RunsWithout, lack, why);
    }

    /// It can't do its work for the lack of this.
    fn cannot(&mut self, path: FieldPath, lack: Lack, why: impl Into<String>) {
        self.push(path, Outcome::CannotRunHere, lack, why);
    }

    fn push(&mut self, path: FieldPath, outcome: Outcome, lack: Lack, why: impl Into<String>) {
        self.0.push(Finding { path, outcome, code: lack.code(), why: why.into() });
    }

    fn verdict(mut self, containers: bool) -> Verdict {
        self.0.sort_by(|a, b| (&a.path, a.code).cmp(&(&b.path, b.code)));
        self.0.dedup_by(|a, b| a.path == b.path && a.code == b.code);
        let outcome = self.0.iter().map(|finding| finding.outcome).max();
        Verdict { outcome: outcome.unwrap_or(Outcome::Runs), findings: self.0, containers }
    }
}

impl Lack {
    const fn code(self) -> &'static str {
        match self {
            Self::KubernetesApi => "KubernetesApi",
            Self::Kubelet => "Kubelet",
            Self::KubeletPlugins => "KubeletPlugins",
            Self::DevicePlugins => "DevicePlugins",
            Self::PersistentVolumes => "PersistentVolumes",
            Self::PodNetwork => "PodNetwork",
            Self::Services => "Services",
            Self::Scheduler => "Scheduler",
            Self::Windows => "Windows",
            Self::Feature => "Feature",
        }
    }
}

impl Outcome {
    /// One word for programs.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Runs => "Runs",
            Self::RunsWithout => "RunsWithout",
            Self::CannotRunHere => "CannotRunHere",
            Self::Refused => "Refused",
            Self::Skipped => "Skipped",
        }
    }
}

impl fmt::Display for Outcome {
    /// For people.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Runs => "runs",
            Self::RunsWithout => "runs without",
            Self::CannotRunHere => "cannot run here",
            Self::Refused => "refused",
            Self::Skipped => "skipped",
        })
    }
}

impl fmt::Display for Finding {
    /// `path: cannot run here: why`; of a refusal, whose text has it all, just that.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.outcome {
            Outcome::Refused | Outcome::Skipped => f.write_str(&self.why),
            outcome => write!(f, "{}: {outcome}: {}", self.path, self.why),
        }
    }
}

/// Every container of the pod with its path, in the order of the fields.
fn containers<'a>(
    at: &'a FieldPath,
    pod: &'a PodSpec,
) -> impl Iterator<Item = (FieldPath, &'a Container)> {
    let lists = [
        ("containers", pod.containers.as_slice()),
        ("initContainers", pod.init_containers.as_deref().unwrap_or_default()),
    ];
    lists.into_iter().flat_map(move |(field, list)| {
        let list = list.iter().enumerate();
        list.map(move |(index, container)| (at.field(field).index(index), container))
    })
}
