//! What the lock witnesses have seen.
//!
//! A witness takes an exclusive lock on its node's file when it starts and holds it for as long as
//! it lives; when somebody else holds it, it writes that down. So an overlap of two instances
//! leaves a trace also when it was shorter than the time between two looks at `/proc`.
//!
//! ```text
//!   MICROSECONDS PID MARK started|locked|overlap|stopping|ended
//!   MICROSECONDS PID MARK early WHY                                  something was out of turn
//!   MICROSECONDS PID MARK prepared|side-up|side-down|hook|hooked     others of its pod
//! ```

use std::fs;
use std::path::{Path, PathBuf};

use crate::failure::{Context as _, Outcome};
use crate::{ensure, failure};

/// How many lines before one that is wrong are told.
const TOLD: usize = 30;

/// One line of a witness.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Line {
    /// When, by the clock that all processes of this computer share.
    pub micros: u64,
    /// Who.
    pub pid: u32,
    /// Which revision, by the mark on its command line.
    pub mark: String,
    /// What.
    pub what: What,
}

/// What a witness writes down.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum What {
    /// It runs and does not have the lock yet.
    Started,
    /// It has the lock.
    Locked,
    /// Somebody else has it: another instance lives.
    Overlap,
    /// It was asked to end and will in a moment.
    Stopping,
    /// It ends by itself: nobody killed it while it was stopping.
    Ended,
    /// Something has happened out of turn.
    Early,
    /// An init container has done its work.
    Prepared,
    /// A sidecar is there.
    SideUp,
    /// A sidecar ends.
    SideDown,
    /// A preStop hook begins.
    Hook,
    /// It has done its work.
    Hooked,
}

/// The time in which a node had no instance.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Gap {
    /// Which node.
    pub node: String,
    /// From the end of one, in microseconds.
    pub from: u64,
    /// To the lock of the next.
    pub to: u64,
}

/// All that the witness of one node has written.
///
/// # Errors
/// When it has written nothing, or something else.
pub fn read(dir: &Path, node: &str) -> Outcome<Vec<Line>> {
    let path = path(dir, node);
    let text = fs::read_to_string(&path).context(path.display())?;
    // A writer that was killed may have left half a line at the end.
    let whole = text.rsplit_once('\n').map_or("", |(whole, _)| whole);
    whole.lines().map(|line| parse(line).ok_or_else(|| failure!("no witness: {line:?}"))).collect()
}

/// Sees that no witness has ever met another, and nothing happened out of turn, on any node.
///
/// # Errors
/// When one has.
pub fn no_overlap(dir: &Path) -> Outcome {
    let entries = fs::read_dir(dir).context(dir.display())?;
    for entry in entries.flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        let Some(node) = name.strip_suffix(".log") else { continue };
        let lines = read(dir, node)?;
        let bad = lines.iter().position(|line| matches!(line.what, What::Overlap | What::Early));
        ensure!(bad.is_none(), "out of turn on {node}:\n{}", around(&path(dir, node), bad)?);
    }
    Ok(())
}

/// The times in which nodes had no instance because it was asked to end.
///
/// # Errors
/// When a witness can't be read.
pub fn gaps(dir: &Path, nodes: &[String]) -> Outcome<Vec<Gap>> {
    let mut gaps = Vec::new();
    for node in nodes {
        let mut from = None;
        for line in read(dir, node)? {
            match line.what {
                What::Stopping => from = Some(line.micros),
                What::Locked => {
                    let gap = |from| Gap { node: node.clone(), from, to: line.micros };
                    gaps.extend(from.take().map(gap));
                }
                _ => {}
            }
        }
    }
    gaps.sort_by_key(|gap| gap.from);
    Ok(gaps)
}

fn path(dir: &Path, node: &str) -> PathBuf {
    dir.join(format!("{node}.log"))
}

/// The lines that lead to the one at which something was wrong.
fn around(log: &Path, at: Option<usize>) -> Outcome<String> {
    let text = fs::read_to_string(log)?;
    let (first, count) = (at.unwrap_or(0).saturating_sub(TOLD), TOLD + 3);
    Ok(text.lines().skip(first).take(count).collect::<Vec<_>>().join("\n"))
}

fn parse(line: &str) -> Option<Line> {
    let mut words = line.split(' ');
    let (micros, pid, mark) = (words.next()?, words.next()?, words.next()?);
    let what = match words.next()? {
        "started" => What::Started,
        "locked" => What::Locked,
        "overlap" => What::Overlap,
        "stopping" => What::Stopping,
        "ended" => What::Ended,
        "early" => What::Early,
        "prepared" => What::Prepared,
        "side-up" => What::SideUp,
        "side-down" => What::SideDown,
        "hook" => What::Hook,
        "hooked" => What::Hooked,
        _ => return None,
    };
    Some(Line { micros: micros.parse().ok()?, pid: pid.parse().ok()?, mark: mark.into(), what })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_overlap_is_found_and_half_a_line_is_none() {
        let dir = tempfile::tempdir().unwrap();
        let log = dir.path().join("n1.log");
        fs::write(&log, "1 10 a started\n2 10 a locked\n5 10 a stop").unwrap();
        assert_eq!(no_overlap(dir.path()), Ok(()));
        fs::write(&log, "1 10 a started\n2 11 a overlap\n").unwrap();
        assert!(no_overlap(dir.path()).is_err());
        fs::write(&log, "1 10 a prepared\n2 11 a early main is started too soon\n").unwrap();
        assert!(no_overlap(dir.path()).unwrap_err().to_string().contains("too soon"));
    }

    #[test]
    fn a_gap_lasts_until_the_next_one_has_the_lock() {
        let dir = tempfile::tempdir().unwrap();
        let text = "1 10 a locked\n5 10 a stopping\n7 11 b started\n8 11 b locked\n";
        fs::write(dir.path().join("n1.log"), text).unwrap();
        let gap = Gap { node: "n1".into(), from: 5, to: 8 };
        assert_eq!(gaps(dir.path(), &["n1".into()]), Ok(vec![gap]));
    }
}
