//! `cargo run --release -p world -- --minutes 10`: walks a fleet for so long.
#![allow(
    clippy::print_stdout,
    clippy::print_stderr,
    clippy::disallowed_methods,
    reason = "a program for people at a terminal, who want to know how fast it is"
)]

use std::io::IsTerminal as _;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use clap::Parser;
use world::run::{self, Summary};

/// Walks a whole fleet, both cores and pretended machines, through everything that can happen to it,
/// and looks at every promise after every step.
#[derive(Parser)]
#[command(after_help = "Examples:
  cargo run --release -p world -- --minutes 10
  cargo run --release -p world -- --seeds 1000
  cargo run --release -p world -- --seed 17           # one walk, told to its end if it fails")]
struct Args {
    /// For how long to begin new walks; without --minutes and --seeds, one minute
    #[arg(long, value_name = "M", conflicts_with = "seed")]
    minutes: Option<f64>,
    /// Only the walk of this seed
    #[arg(long, value_name = "N")]
    seed: Option<u64>,
    /// How many walks, from seed 0 on
    #[arg(long, value_name = "N", conflicts_with = "seed")]
    seeds: Option<u64>,
    /// How many steps the storm of each walk has
    #[arg(long, value_name = "N", default_value_t = 1000)]
    steps: u64,
}

fn main() -> ExitCode {
    let args = Args::parse();
    let began = Instant::now();
    let walks = args.seed.map_or(args.seeds, |_| Some(1));
    let minutes = args.minutes.or_else(|| walks.is_none().then_some(1.0));
    // Whatever is no duration is no limit.
    let time = minutes.and_then(|it| Duration::try_from_secs_f64(it * 60.0).ok());
    let more = |number| {
        walks.is_none_or(|walks| number < walks) && time.is_none_or(|time| began.elapsed() < time)
    };
    let shows = std::io::stderr().is_terminal();
    let progress = |summary: &Summary| {
        if shows {
            eprint!("\r{} seeds, {} steps, {:.0?} ", summary.walks, summary.steps, began.elapsed());
        }
    };
    let (summary, failed) = run::all(args.seed.unwrap_or(0), args.steps, more, progress);
    if shows {
        eprintln!();
    }
    let seconds = began.elapsed().as_secs_f64();
    println!("{summary} in {seconds:.1} s: {:.0} steps/s", summary.steps as f64 / seconds);
    match failed {
        None => ExitCode::SUCCESS,
        Some(failed) => {
            println!("{failed}");
            ExitCode::FAILURE
        }
    }
}
