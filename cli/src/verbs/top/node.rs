//! `top node`.

use everynode_proto::v1::{NodeUsage, UsageRequest};

use super::{Answers, Used, ask, print};
use crate::args::TopNodeArgs;
use crate::context::Context;
use crate::error::Error;
use crate::out::Out;

const HEADS: [&str; 5] = ["NAME", "CPU(cores)", "CPU%", "MEMORY(bytes)", "MEMORY%"];

pub(super) async fn run(args: &TopNodeArgs, context: &Context, out: &mut Out) -> Result<(), Error> {
    let client = context.connect().await?;
    let request = UsageRequest {
        names: args.name.iter().cloned().collect(),
        label_selector: args.selector.clone().unwrap_or_default(),
    };
    let answers = ask(&client, request, out).await?;
    if answers.is_empty() {
        out.note_nothing("");
        return Ok(());
    }
    print(&HEADS, args.no_headers, rows(args, &answers), out)?;
    match answers.values().any(Result::is_ok) {
        true => Ok(()),
        // Each has been told of.
        false => Err(Error::Told),
    }
}

/// Those that have answered, then the others.
fn rows(args: &TopNodeArgs, answers: &Answers) -> Vec<Vec<String>> {
    let mut known: Vec<(&String, &NodeUsage)> =
        answers.iter().filter_map(|(name, told)| Some((name, told.as_ref().ok()?))).collect();
    if let Some(by) = args.sort_by {
        known.sort_by_key(|(name, usage)| (used(usage).rank(by), *name));
    }
    let known = known.into_iter().map(|(name, usage)| row(name, usage));
    let unknown = answers.iter().filter(|(_, told)| told.is_err()).map(|(name, _)| {
        let unknown = std::iter::repeat_n("<unknown>".to_owned(), HEADS.len() - 1);
        std::iter::once(name.clone()).chain(unknown).collect()
    });
    known.chain(unknown).collect()
}

fn row(name: &str, usage: &NodeUsage) -> Vec<String> {
    let [cpu, memory] = used(usage).cells();
    let share = |part: u64, whole: u64| {
        let percent = u128::from(part) * 100 / u128::from(whole.max(1));
        format!("{percent}%")
    };
    vec![
        name.to_owned(),
        cpu,
        share(usage.cpu_nanocores, usage.cpu_capacity_nanocores),
        memory,
        share(usage.memory_bytes, usage.memory_capacity_bytes),
    ]
}

fn used(usage: &NodeUsage) -> Used {
    Used { cpu: usage.cpu_nanocores, memory: usage.memory_bytes }
}

#[cfg(test)]
mod tests {
    use everynode_proto::v1::Reason;

    use super::*;
    use crate::args::SortBy;

    fn usage(cpu: u64, memory: u64) -> NodeUsage {
        NodeUsage {
            cpu_nanocores: cpu,
            cpu_capacity_nanocores: 2_000_000_000,
            memory_bytes: memory << 20,
            memory_capacity_bytes: 1000 << 20,
            pods: Vec::new(),
        }
    }

    #[test]
    fn nodes_are_shown_as_kubectl_shows_them() {
        let answers = Answers::from([
            ("a".to_owned(), Err(Reason::default())),
            ("b".to_owned(), Ok(usage(500_000_001, 10))),
            ("c".to_owned(), Ok(usage(1_900_000_000, 999))),
        ]);
        let mut args = TopNodeArgs { name: None, selector: None, sort_by: None, no_headers: false };
        let shown = |args: &TopNodeArgs| -> Vec<String> {
            rows(args, &answers).iter().map(|row| row.join(" ")).collect()
        };
        let (b, c) = ("b 501m 25% 10Mi 1%", "c 1900m 95% 999Mi 99%");
        let a = "a <unknown> <unknown> <unknown> <unknown>";
        assert_eq!(shown(&args), [b, c, a]);
        args.sort_by = Some(SortBy::Memory);
        assert_eq!(shown(&args), [c, b, a]);
    }
}
