//! What pods and nodes use, as `top` tells it: which is the busiest and which the largest. How much
//! exactly is the kernel's to say, and nobody's here.

use everynode_tests::ground::Ground;
use everynode_tests::manifests::{self, DaemonSet};
use everynode_tests::{Fleet, Outcome, ensure, failure, wait};

/// What the large one holds, in bytes.
const LARGE: usize = 96 << 20;

/// One pod keeps a processor busy, another holds much memory; a node whose agent is gone is told of.
pub(crate) fn the_busy_and_the_large_are_told(ground: &Ground) -> Outcome {
    Fleet::play(ground, 2, |fleet| {
        fleet.apply(&daemon("busy", &manifests::script("main", "while :; do :; done")))?;
        let hold = format!("my $held = 'x' x {LARGE}; sleep 1000 while 1");
        let large = format!("- name: main\n  command: [perl, -e, \"{hold}\"]\n");
        fleet.apply(&daemon("large", &(large + &manifests::script("side", "exec sleep 1000"))))?;
        wait::soon("the large one is the largest, and holds what it holds", || {
            let lines = pods(fleet, &["--sort-by=memory"])?;
            let [first, _] = lines.as_slice() else { return Err(failure!("{lines:?}")) };
            let mebibytes = first[2].trim_end_matches("Mi").parse::<usize>().unwrap_or_default();
            ensure!(first[0].starts_with("large-") && mebibytes >= LARGE >> 20, "{lines:?}");
            Ok(())
        })?;
        wait::soon("the busy one is the busiest", || {
            let lines = pods(fleet, &["--sort-by=cpu"])?;
            ensure!(lines.first().is_some_and(|line| line[0].starts_with("busy-")), "{lines:?}");
            Ok(())
        })?;
        let of_large = pods(fleet, &["-l", "app=large", "--containers", "--sum"])?;
        let names: Vec<&str> = of_large.iter().map(|line| line[1].as_str()).collect();
        ensure!(names.len() == 4 && names[..2] == ["main", "side"], "{of_large:?}");

        let nodes = fleet.tool(&["top", "node", "n1"])?.ok()?;
        let heads = "NAME   CPU(cores)   CPU%   MEMORY(bytes)   MEMORY%";
        ensure!(nodes.starts_with("NAME ") && words(&nodes)[0] == words(heads)[0], "{nodes}");
        fleet.machine_mut("n2")?.take_agent()?.kill()?;
        wait::soon("a node that is away is told with the reason", || {
            let said = fleet.tool(&["top", "nodes", "--no-headers"])?;
            let lines = words(&said.clone().ok()?);
            let [n1, n2] = lines.as_slice() else { return Err(failure!("{said}")) };
            ensure!(n1[0] == "n1" && n1[2].ends_with('%') && n1[3].ends_with("Mi"), "{said}");
            ensure!(n2[0] == "n2" && n2[1..].iter().all(|cell| cell == "<unknown>"), "{said}");
            ensure!(said.err.contains("node n2: NodeNotConnected: "), "{said}");
            Ok(())
        })?;
        fleet.tool(&["top", "node", "n9"])?.refused(&["nodes \"n9\" not found"])?;
        fleet.machine_mut("n2")?.start_agent(None)
    })
}

fn pods(fleet: &Fleet<'_>, flags: &[&str]) -> Outcome<Vec<Vec<String>>> {
    let all = [&["top", "pods", "--no-headers"], flags].concat();
    Ok(words(&fleet.tool(&all)?.ok()?))
}

fn words(text: &str) -> Vec<Vec<String>> {
    let line = |line: &str| line.split_whitespace().map(str::to_owned).collect();
    text.lines().map(line).collect()
}

fn daemon(name: &str, containers: &str) -> String {
    let pod = "nodeSelector: {kubernetes.io/hostname: n1}\n";
    DaemonSet { name, pod, containers, ..DaemonSet::default() }.to_string()
}
