//! Which container of which pod is meant.

use std::time::Duration;

use everynode_proto::v1::Pod;
use tokio::time::{Instant, sleep, timeout_at};

use crate::args::ExecArgs;
use crate::connect::Client;
use crate::error::Error;
use crate::kinds::{DaemonSets, Kind as _, Pods, Resource, name_of};
use crate::out::Out;
use crate::targets::slashed;
use crate::verbs::pick;

/// Between two looks at whether a pod of a DaemonSet runs.
const AGAIN: Duration = Duration::from_secs(1);

/// What the arguments name.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Target {
    Pod(String),
    DaemonSet(String),
}

/// What is named, if there is something to run there; kubectl's words otherwise.
pub(super) fn target(args: &ExecArgs) -> Result<Target, Error> {
    let usage = |text: &str| Err(Error::Usage(text.into()));
    let what = match args.what.as_slice() {
        [] => return usage("pod or type/name must be specified"),
        [what] => what,
        [_, _, ..] => {
            return usage(
                "exec [POD] [COMMAND] is not supported. Use exec [POD] -- [COMMAND] instead",
            );
        }
    };
    if args.command.first().is_none_or(String::is_empty) {
        return usage("you must specify at least one command for the container");
    }
    let target = match what.contains('/') {
        false => Target::Pod(what.clone()),
        true => match slashed(what)? {
            (Resource::Pods, name) => Target::Pod(name),
            (Resource::DaemonSets, name) => Target::DaemonSet(name),
            _ => return usage("exec: only in pods, and those of DaemonSets, programs can be run"),
        },
    };
    match target {
        Target::Pod(_) if args.node.is_some() => {
            usage("exec: --node goes with daemonset/NAME: a pod is on one node only")
        }
        target => Ok(target),
    }
}

/// The pod and the container that are meant. Whether they can be used is the coordinator's to say.
pub(super) async fn choose(
    args: &ExecArgs,
    target: Target,
    client: &Client,
    namespace: &str,
    out: &mut Out,
) -> Result<(String, String), Error> {
    let mut quiet = Out::silent();
    let out = if args.quiet { &mut quiet } else { out };
    let pod = match target {
        Target::Pod(name) => Pods::get(client, namespace, &name).await?,
        Target::DaemonSet(name) => {
            let end = Instant::now() + args.pod_running_timeout;
            let running = running(args, &name, client, namespace);
            let pods = timeout_at(end, running).await;
            let pods = pods.map_err(|_| {
                let text = format!("timed out waiting until a pod of daemonset/{name} runs");
                Error::Failed(text)
            })??;
            pick::best(pods, out)
        }
    };
    let container = match &args.container {
        Some(container) => container.clone(),
        None => pick::container(&pod, out).to_owned(),
    };
    Ok((name_of(pod.metadata.as_ref()).to_owned(), container))
}

/// The pods of a DaemonSet, as soon as one of them runs.
async fn running(
    args: &ExecArgs,
    name: &str,
    client: &Client,
    namespace: &str,
) -> Result<Vec<Pod>, Error> {
    DaemonSets::get(client, namespace, name).await?;
    loop {
        let pods = pick::some_pods_of(client, namespace, name, args.node.as_deref()).await?;
        if pods.iter().any(pick::runs) {
            return Ok(pods);
        }
        sleep(AGAIN).await;
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;

    use super::*;
    use crate::args::{Cli, Verb};

    fn parsed(line: &str) -> Result<(Target, ExecArgs), Error> {
        let words = ["everynode", "exec"].into_iter().chain(line.split_whitespace());
        let Verb::Exec(args) = Cli::try_parse_from(words).unwrap().verb else { panic!() };
        target(&args).map(|target| (target, args))
    }

    #[test]
    fn a_command_is_all_behind_the_dashes() {
        let (target, args) = parsed("-it x -c main -- sh -c ls -it").unwrap();
        assert_eq!(target, Target::Pod("x".into()));
        assert!(args.stdin && args.tty && !args.quiet);
        assert_eq!(args.container.as_deref(), Some("main"));
        assert_eq!(args.command, ["sh", "-c", "ls", "-it"]);
        let (target, args) = parsed("ds/x --node n -- ls").unwrap();
        assert_eq!((target, args.node.as_deref()), (Target::DaemonSet("x".into()), Some("n")));
        assert_eq!(parsed("pod/x -- ls").unwrap().0, Target::Pod("x".into()));
    }

    #[test]
    fn what_is_missing_is_said_in_kubectls_words() {
        for (line, text) in [
            ("", "must be specified"),
            ("-- ls", "must be specified"),
            ("x", "you must specify at least one command for the container"),
            ("x --", "you must specify at least one command for the container"),
            ("x ls", "exec [POD] [COMMAND] is not supported"),
            ("node/x -- ls", "only in pods"),
            ("x --node n -- ls", "--node goes with daemonset/NAME"),
        ] {
            let error = parsed(line).unwrap_err();
            assert!(error.to_string().contains(text), "{line}: {error}");
        }
    }
}
