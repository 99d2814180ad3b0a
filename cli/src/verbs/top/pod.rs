//! `top pod`.

use std::collections::{BTreeMap, BTreeSet};

use everynode_proto::v1::{ListRequest, Pod, PodUsage, UsageRequest};

use super::{Answers, Used, ask, print};
use crate::args::TopPodArgs;
use crate::context::Context;
use crate::error::Error;
use crate::kinds::{Kind as _, Pods, name_of, namespace_of};
use crate::out::Out;

/// One line.
struct Line {
    namespace: String,
    pod: String,
    /// Where containers are shown by themselves.
    container: Option<String>,
    used: Used,
}

pub(super) async fn run(args: &TopPodArgs, context: &Context, out: &mut Out) -> Result<(), Error> {
    let client = context.connect().await?;
    let namespace = if args.all_namespaces { String::new() } else { context.namespace()? };
    let pods = match &args.name {
        Some(name) => vec![Pods::get(&client, &namespace, name).await?],
        None => {
            let request = ListRequest {
                namespace: namespace.clone(),
                label_selector: args.selector.clone().unwrap_or_default(),
                ..ListRequest::default()
            };
            Pods::list(&client, request).await?.items
        }
    };
    if pods.is_empty() {
        out.note_nothing(&namespace);
        return Ok(());
    }
    let names: BTreeSet<String> = pods.iter().map(|pod| pod.node_name.clone()).collect();
    let request = UsageRequest { names: names.into_iter().collect(), ..UsageRequest::default() };
    let answers = ask(&client, request, out).await?;
    let lines = lines(args, &pods, &answers);
    if lines.is_empty() {
        let what = args.name.as_ref().map(|name| format!(" for pod {namespace}/{name}"));
        let what = what.unwrap_or_default();
        return Err(Error::Failed(format!("Metrics not available{what}: nothing of it runs")));
    }
    show(args, &lines, out)
}

/// Those of which anything runs, in order.
fn lines(args: &TopPodArgs, pods: &[Pod], answers: &Answers) -> Vec<Line> {
    let told = answers.values().filter_map(|told| told.as_ref().ok()).flat_map(|told| &told.pods);
    let told: BTreeMap<&str, &PodUsage> = told.map(|pod| (pod.uid.as_str(), pod)).collect();
    let mut lines = Vec::new();
    for pod in pods {
        let metadata = pod.metadata.as_ref();
        let uid = metadata.map_or("", |metadata| metadata.uid.as_str());
        let Some(told) = told.get(uid) else { continue };
        let line = |container, used| Line {
            namespace: namespace_of(metadata).to_owned(),
            pod: name_of(metadata).to_owned(),
            container,
            used,
        };
        let each = told
            .containers
            .iter()
            .map(|one| (one, Used { cpu: one.cpu_nanocores, memory: one.memory_bytes }));
        if args.containers {
            lines.extend(each.map(|(one, used)| line(Some(one.name.clone()), used)));
        } else {
            let used = each.map(|(_, used)| used).fold(Used::default(), Used::plus);
            lines.push(line(None, used));
        }
    }
    let rank = |line: &Line| args.sort_by.map(|by| line.used.rank(by));
    lines.sort_by(|one, other| {
        let key = |line: &Line| (rank(line), line.namespace.clone(), line.pod.clone());
        key(one).cmp(&key(other)).then_with(|| one.container.cmp(&other.container))
    });
    lines
}

fn show(args: &TopPodArgs, lines: &[Line], out: &mut Out) -> Result<(), Error> {
    let mut heads = Vec::new();
    heads.extend(args.all_namespaces.then_some("NAMESPACE"));
    heads.extend(args.containers.then_some("POD"));
    heads.extend(["NAME", "CPU(cores)", "MEMORY(bytes)"]);
    let mut rows: Vec<Vec<String>> = lines.iter().map(|line| row(args, line)).collect();
    if args.sum {
        let before = heads.len() - 2;
        let under = |cells: [String; 2]| -> Vec<String> {
            std::iter::repeat_n(String::new(), before).chain(cells).collect()
        };
        let all = lines.iter().map(|line| line.used).fold(Used::default(), Used::plus);
        rows.push(under(["________".into(), "________".into()]));
        rows.push(under(all.cells()));
    }
    print(&heads, args.no_headers, rows, out)
}

fn row(args: &TopPodArgs, line: &Line) -> Vec<String> {
    let namespace = args.all_namespaces.then(|| line.namespace.clone());
    let names = std::iter::once(line.pod.clone()).chain(line.container.clone());
    namespace.into_iter().chain(names).chain(line.used.cells()).collect()
}

#[cfg(test)]
mod tests {
    use everynode_proto::v1::{ContainerUsage, NodeUsage, ObjectMeta};

    use super::*;
    use crate::args::SortBy;
    use crate::out::testing::captured;

    fn args() -> TopPodArgs {
        TopPodArgs {
            name: None,
            selector: None,
            all_namespaces: false,
            containers: false,
            sort_by: None,
            no_headers: false,
            sum: false,
        }
    }

    fn pod(name: &str) -> Pod {
        let metadata = ObjectMeta {
            name: name.into(),
            namespace: "default".into(),
            uid: format!("uid-{name}"),
            ..ObjectMeta::default()
        };
        Pod { metadata: Some(metadata), ..Pod::default() }
    }

    /// A container's name, thousandths of a processor, and mebibytes.
    type Using<'a> = (&'a str, u64, u64);

    fn told(pods: &[(&str, &[Using<'_>])]) -> Answers {
        let container = |&(name, cpu, memory): &Using<'_>| ContainerUsage {
            name: name.into(),
            cpu_nanocores: cpu * 1_000_000,
            memory_bytes: memory << 20,
        };
        let pods = pods.iter().map(|(name, containers)| PodUsage {
            uid: format!("uid-{name}"),
            containers: containers.iter().map(container).collect(),
        });
        let usage = NodeUsage { pods: pods.collect(), ..NodeUsage::default() };
        Answers::from([("n".to_owned(), Ok(usage))])
    }

    fn shown(args: &TopPodArgs) -> String {
        let answers = told(&[
            ("calm", &[("main", 1, 200)]),
            ("busy", &[("main", 900, 5), ("side", 50, 3)]),
            ("other", &[("main", 1, 1)]),
        ]);
        let (mut out, printed, _) = captured();
        let pods = [pod("calm"), pod("busy"), pod("waits")];
        show(args, &lines(args, &pods, &answers), &mut out).unwrap();
        printed.text()
    }

    #[test]
    fn pods_are_shown_as_kubectl_shows_them() {
        assert_eq!(
            shown(&args()),
            "NAME   CPU(cores)   MEMORY(bytes)\nbusy   950m         8Mi\ncalm   1m           200Mi\n"
        );
        let by_memory = TopPodArgs { sort_by: Some(SortBy::Memory), no_headers: true, ..args() };
        assert_eq!(shown(&by_memory), "calm   1m     200Mi\nbusy   950m   8Mi\n");
    }

    #[test]
    fn containers_stand_by_themselves_and_together_they_are_summed_up() {
        let all = TopPodArgs { containers: true, all_namespaces: true, sum: true, ..args() };
        let lines: Vec<String> = shown(&all)
            .lines()
            .map(|line| line.split_whitespace().collect::<Vec<_>>().join(" "))
            .collect();
        assert_eq!(
            lines,
            [
                "NAMESPACE POD NAME CPU(cores) MEMORY(bytes)",
                "default busy main 900m 5Mi",
                "default busy side 50m 3Mi",
                "default calm main 1m 200Mi",
                "________ ________",
                "951m 208Mi",
            ]
        );
    }
}
