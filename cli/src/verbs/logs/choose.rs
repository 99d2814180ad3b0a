//! Which containers of which pods are meant.

use everynode_proto::v1::{ListRequest, Pod};

use crate::args::LogsArgs;
use crate::connect::Client;
use crate::error::Error;
use crate::kinds::{DaemonSets, Kind as _, Pods, Resource, name_of};
use crate::out::Out;
use crate::targets::slashed;
use crate::verbs::pick;

/// A container of a pod.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Chosen {
    pub(super) pod: String,
    pub(super) container: String,
}

/// What the arguments name.
#[derive(Debug, PartialEq, Eq)]
enum Target {
    Pod(String),
    DaemonSet(String),
    Selector(String),
}

/// The containers that are meant, in order of pods.
pub(super) async fn choose(
    args: &LogsArgs,
    client: &Client,
    namespace: &str,
    out: &mut Out,
) -> Result<Vec<Chosen>, Error> {
    let (target, container) = target(args)?;
    let mut pods = match &target {
        Target::Pod(name) => vec![Pods::get(client, namespace, name).await?],
        Target::DaemonSet(name) => {
            DaemonSets::get(client, namespace, name).await?;
            pick::some_pods_of(client, namespace, name, args.node.as_deref()).await?
        }
        Target::Selector(labels) => {
            let request = ListRequest {
                namespace: namespace.into(),
                label_selector: labels.clone(),
                field: args.node.clone().unwrap_or_default(),
                ..ListRequest::default()
            };
            Pods::list(client, request).await?.items
        }
    };
    if pods.is_empty() {
        out.note_nothing(namespace);
    }
    if matches!(target, Target::DaemonSet(_)) && !args.all_pods {
        pods = vec![pick::best(pods, out)];
    }
    let mut chosen = Vec::new();
    for pod in &pods {
        chosen.extend(containers(pod, container.as_deref(), args.all_containers, out));
    }
    Ok(chosen)
}

fn target(args: &LogsArgs) -> Result<(Target, Option<String>), Error> {
    let usage = |text: &str| Err(Error::Usage(format!("logs: {text}")));
    let container = match (&args.container, args.what.get(1)) {
        (Some(_), Some(_)) => {
            return usage("name the container once: POD CONTAINER or -c CONTAINER");
        }
        (flag, word) => flag.clone().or_else(|| word.cloned()),
    };
    if args.all_containers && container.is_some() {
        return usage("--all-containers should not be specified with a container's name");
    }
    let target = match (args.what.first(), &args.selector) {
        (Some(what), _) if !what.contains('/') => Target::Pod(what.clone()),
        (Some(what), _) => match slashed(what)? {
            (Resource::Pods, name) => Target::Pod(name),
            (Resource::DaemonSets, name) => Target::DaemonSet(name),
            _ => return usage("only pods and DaemonSets have logs"),
        },
        (None, Some(labels)) => Target::Selector(labels.clone()),
        (None, None) => return usage("name a pod, daemonset/NAME or -l SELECTOR"),
    };
    match &target {
        Target::Pod(_) if args.node.is_some() => {
            usage("--node goes with daemonset/NAME or -l: a pod is on one node only")
        }
        Target::Pod(_) | Target::Selector(_) if args.all_pods => {
            usage("--all-pods goes with daemonset/NAME")
        }
        _ => Ok((target, container)),
    }
}

/// Those of a pod that are meant. Of one that has said nothing the coordinator says why.
fn containers(pod: &Pod, wanted: Option<&str>, all: bool, out: &mut Out) -> Vec<Chosen> {
    let name = name_of(pod.metadata.as_ref());
    let there = pick::containers(pod);
    let chosen = match wanted {
        Some(wanted) => vec![wanted],
        None if all && !there.is_empty() => there,
        None => vec![pick::container(pod, out)],
    };
    let of_pod = |container: &str| Chosen { pod: name.to_owned(), container: container.to_owned() };
    chosen.into_iter().map(of_pod).collect()
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;

    use super::*;
    use crate::args::{Cli, Verb};
    use crate::out::testing::captured;
    use crate::verbs::pick::tests::pod;

    fn parsed(line: &str) -> Result<(Target, Option<String>), Error> {
        let words = ["everynode", "logs"].into_iter().chain(line.split_whitespace());
        let Verb::Logs(args) = Cli::try_parse_from(words).unwrap().verb else { panic!() };
        target(&args)
    }

    #[test]
    fn what_is_named_is_told_from_how() {
        let pod = |name: &str| Target::Pod(name.into());
        assert_eq!(parsed("x").unwrap(), (pod("x"), None));
        assert_eq!(parsed("x main -f").unwrap(), (pod("x"), Some("main".into())));
        assert_eq!(parsed("pod/x -c main").unwrap(), (pod("x"), Some("main".into())));
        assert_eq!(parsed("ds/x --node n").unwrap().0, Target::DaemonSet("x".into()));
        assert_eq!(parsed("-l a=b --node n").unwrap().0, Target::Selector("a=b".into()));
        for line in [
            "x main -c main",
            "x --node n",
            "node/x",
            "pod/",
            "x --all-pods",
            "x main --all-containers",
        ] {
            assert!(matches!(parsed(line), Err(Error::Usage(_))), "{line}");
        }
    }

    #[test]
    fn containers_are_chosen_as_in_kubectl() {
        let (mut out, _, err) = captured();
        let two = pod("p", 1, &["a", "b"]);
        let mut names = |wanted, all| {
            let chosen = containers(&two, wanted, all, &mut out);
            chosen.into_iter().map(|chosen| chosen.container).collect::<Vec<_>>()
        };
        assert_eq!(names(None, true), ["a", "b"]);
        assert_eq!(names(Some("b"), false), ["b"]);
        assert_eq!(names(None, false), ["a"]);
        assert_eq!(err.text(), "Defaulted container \"a\" out of: a, b\n");
    }
}
