//! Runs scenarios as `cargo test` runs tests: by name, some at a time, with its words.
//!
//! A runner of our own, because scenarios share what is found out once ([`Ground`]), need root, and
//! mostly wait: more of them at a time than there are processors.

use std::io::{self, Write as _};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::ExitCode;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use crate::failure;
use crate::failure::{Failure, Outcome};
use crate::ground::Ground;

/// A scenario: its name and how it is played.
pub type Scenario = (&'static str, fn(&Ground) -> Outcome);

/// How many are played at a time: they wait for leases and back-offs, hardly ever for a processor.
const AT_A_TIME: usize = 3;

struct Wanted {
    filters: Vec<String>,
    exact: bool,
    list: bool,
    at_a_time: usize,
}

/// Runs those of the scenarios that the command line asks for.
pub fn main(scenarios: &[Scenario]) -> ExitCode {
    let wanted = Wanted::read(std::env::args().skip(1));
    let chosen: Vec<Scenario> =
        scenarios.iter().filter(|(name, _)| wanted.wants(name)).copied().collect();
    if wanted.list {
        chosen.iter().for_each(|(name, _)| say(&format!("{name}: test")));
        return ExitCode::SUCCESS;
    }
    let filtered = scenarios.len() - chosen.len();
    say(&format!("\nrunning {} tests", chosen.len()));
    if !rustix::process::geteuid().is_root() {
        chosen.iter().for_each(|(name, _)| say(&format!("test {name} ... ignored, needs root")));
        return close(0, &[], chosen.len(), filtered);
    }
    match Ground::find() {
        Ok(ground) => {
            let failed = play(&ground, &chosen, wanted.at_a_time);
            close(chosen.len() - failed.len(), &failed, 0, filtered)
        }
        Err(failure) => {
            say(&format!("no scenario can be played: {failure}"));
            ExitCode::FAILURE
        }
    }
}

impl Wanted {
    /// Those of libtest's flags that mean something here; the others are passed over, because
    /// `cargo test --workspace -- FLAG` gives them to every test.
    fn read(words: impl Iterator<Item = String>) -> Self {
        let mut wanted =
            Self { filters: Vec::new(), exact: false, list: false, at_a_time: AT_A_TIME };
        let mut words = words;
        while let Some(word) = words.next() {
            match word.as_str() {
                "--exact" => wanted.exact = true,
                "--list" => wanted.list = true,
                "--test-threads" => {
                    let number = words.next().and_then(|word| word.parse().ok());
                    wanted.at_a_time = number.unwrap_or(AT_A_TIME).max(1);
                }
                "--format" | "--color" | "--skip" => drop(words.next()),
                flag if flag.starts_with('-') => {}
                _ => wanted.filters.push(word),
            }
        }
        wanted
    }

    fn wants(&self, name: &str) -> bool {
        let fits = |filter: &String| {
            if self.exact { name == filter } else { name.contains(filter.as_str()) }
        };
        self.filters.is_empty() || self.filters.iter().any(fits)
    }
}

/// Plays them and gives those that failed.
fn play(ground: &Ground, chosen: &[Scenario], at_a_time: usize) -> Vec<(&'static str, Failure)> {
    let next = AtomicUsize::new(0);
    let failed = Mutex::new(Vec::new());
    std::thread::scope(|scope| {
        for _ in 0..at_a_time.min(chosen.len()) {
            scope.spawn(|| {
                while let Some(scenario) = chosen.get(next.fetch_add(1, Ordering::Relaxed)) {
                    if let Err(failure) = play_one(ground, scenario) {
                        let mut failed = failed.lock().unwrap_or_else(|lock| lock.into_inner());
                        failed.push((scenario.0, failure));
                    }
                }
            });
        }
    });
    failed.into_inner().unwrap_or_else(|lock| lock.into_inner())
}

fn play_one(ground: &Ground, (name, scenario): &Scenario) -> Outcome {
    let begun = Instant::now();
    // Its fleet is dropped, and with it all that it made, also when it panics.
    let played = catch_unwind(AssertUnwindSafe(|| scenario(ground)))
        .unwrap_or_else(|_| Err(failure!("it panicked")));
    let word = if played.is_ok() { "ok" } else { "FAILED" };
    say(&format!("test {name} ... {word} ({:.1} s)", begun.elapsed().as_secs_f32()));
    played
}

fn close(
    passed: usize,
    failed: &[(&'static str, Failure)],
    ignored: usize,
    filtered: usize,
) -> ExitCode {
    for (name, failure) in failed {
        say(&format!("\n---- {name} ----\n{failure}"));
    }
    let word = if failed.is_empty() { "ok" } else { "FAILED" };
    say(&format!(
        "\ntest result: {word}. {passed} passed; {} failed; {ignored} ignored; 0 measured; \
         {filtered} filtered out\n",
        failed.len()
    ));
    if failed.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// A line on standard output; a reader that went away is no reason to stop testing.
pub fn say(line: &str) {
    let _ = writeln!(io::stdout().lock(), "{line}");
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wanted(line: &str) -> Wanted {
        Wanted::read(line.split_whitespace().map(str::to_owned))
    }

    #[test]
    fn scenarios_are_chosen_as_libtest_chooses_tests() {
        assert!(wanted("").wants("any"));
        assert!(wanted("leav").wants("a_node_leaves") && !wanted("join").wants("a_node_leaves"));
        assert!(!wanted("leav --exact").wants("a_node_leaves"));
        assert_eq!(wanted("--test-threads 1 --nocapture x").at_a_time, 1);
    }
}
