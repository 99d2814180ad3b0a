//! `top`: what nodes and pods use, in kubectl's columns.
//!
//! The coordinator asks each node when it is asked itself. Of one that gives no answer, there is a line
//! on standard error that says why.

mod node;
mod pod;

use std::cmp::Reverse;
use std::collections::BTreeMap;

use everynode_proto::v1::usage_response::What;
use everynode_proto::v1::{NodeUsage, Reason, UsageRequest};

use crate::args::{SortBy, TopVerb};
use crate::connect::Client;
use crate::context::Context;
use crate::error::Error;
use crate::failure::in_words;
use crate::out::Out;
use crate::table::Table;

/// Of more nodes than that nobody reads why they are silent; `why` tells of all.
const MAX_NOTES: usize = 10;

/// After how many answers more it is shown how many there are: as many as one glance takes in.
const SHOWN: usize = 64;

/// What one line tells of.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Used {
    /// Billionths of a processor.
    cpu: u64,
    /// Bytes.
    memory: u64,
}

/// By node, what it said or why it did not.
type Answers = BTreeMap<String, Result<NodeUsage, Reason>>;

pub(crate) async fn run(verb: &TopVerb, context: &Context, out: &mut Out) -> Result<(), Error> {
    match verb {
        TopVerb::Node(args) => node::run(args, context, out).await,
        TopVerb::Pod(args) => pod::run(args, context, out).await,
    }
}

/// All answers; those that there are not are told.
async fn ask(client: &Client, request: UsageRequest, out: &mut Out) -> Result<Answers, Error> {
    let mut answers = Answers::new();
    let mut stream = client.stream(client.nodes().usage(request)).await?;
    while let Some(answer) = stream.message().await? {
        let told = match answer.what {
            Some(What::Usage(usage)) => Ok(usage),
            Some(What::Unknown(reason)) => Err(reason),
            None => Err(Reason { code: "Unknown".into(), message: String::new() }),
        };
        answers.insert(answer.node, told);
        let many = answers.len();
        if many.is_multiple_of(SHOWN) {
            out.progress(format!("{many} nodes have been asked"));
        }
    }
    let silent = || answers.iter().filter_map(|(node, told)| Some((node, told.as_ref().err()?)));
    for (node, reason) in silent().take(MAX_NOTES) {
        out.note(format!("node {node}: {}", in_words(reason)));
    }
    if let Some(more) = silent().count().checked_sub(MAX_NOTES).filter(|more| *more > 0) {
        out.note(format!("and {more} nodes more that have not answered"));
    }
    Ok(answers)
}

impl Used {
    /// kubectl's columns: thousandths of a processor, begun ones counted, and whole mebibytes.
    fn cells(self) -> [String; 2] {
        [format!("{}m", self.cpu.div_ceil(1_000_000)), format!("{}Mi", self.memory >> 20)]
    }

    fn plus(self, other: Self) -> Self {
        Self {
            cpu: self.cpu.saturating_add(other.cpu),
            memory: self.memory.saturating_add(other.memory),
        }
    }

    /// Orders the largest first.
    fn rank(self, by: SortBy) -> Reverse<u64> {
        Reverse(match by {
            SortBy::Cpu => self.cpu,
            SortBy::Memory => self.memory,
        })
    }
}

fn print(
    heads: &[&str],
    no_headers: bool,
    rows: Vec<Vec<String>>,
    out: &mut Out,
) -> Result<(), Error> {
    let heads = heads.iter().map(|head| (*head).to_owned()).collect();
    let lines: Vec<Vec<String>> =
        Some(heads).into_iter().filter(|_| !no_headers).chain(rows).collect();
    out.text(&Table::default().lay_out(&lines))
}
