//! Moments at which a kill is worth most, as the file systems show them.

use std::fs::File;
use std::io::{Read as _, Seek as _, SeekFrom};
use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use everynode_tests::proc::Process;
use everynode_tests::{Context as _, Fleet, Machine, Outcome, cgroups};
use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::fs::inotify::{self, CreateFlags, Reader, WatchFlags};

use super::writer::{NAMESPACE, Writer};

/// When to kill.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Moment {
    /// Whenever.
    Any,
    /// A pod's cgroup was just made: its supervisor is about to be forked, or just was.
    Creation,
    /// An init container has just done its work: its end, a sidecar and the main container follow.
    Prepared,
    /// A probe or a hook is just being run in a container.
    Exec,
    /// A preStop hook runs; SIGTERM follows.
    Hook,
    /// A workload was just asked to end, and takes its time.
    Stop,
    /// A workload has just ended as it was asked to, and the next one is not there.
    Gap,
    /// A log is being rotated.
    Rotation,
    /// A ledger is being written.
    Ledger,
    /// The coordinator is storing something.
    Store,
    /// Some nodes have a set's new revision, and some do not yet.
    Rollout,
}

/// How often each comes, against the others.
pub(crate) const MOMENTS: [(u64, Moment); 11] = [
    (6, Moment::Any),
    (5, Moment::Creation),
    (3, Moment::Prepared),
    (2, Moment::Exec),
    (3, Moment::Hook),
    (3, Moment::Stop),
    (3, Moment::Gap),
    (2, Moment::Rotation),
    (3, Moment::Ledger),
    (2, Moment::Store),
    (2, Moment::Rollout),
];

/// How long a moment is waited for. Changes are made all the time, so most come within that.
const PATIENCE: Duration = Duration::from_millis(1200);
/// Between looks that nothing wakes.
const BETWEEN: Timespec = Timespec { tv_sec: 0, tv_nsec: 10_000_000 };
/// Room for some events, each of some 16 bytes and a name.
const EVENTS: usize = 4096;
/// Enough of a log's end for its last line.
const TAIL: u64 = 200;

/// Waits until the moment has come on this machine; gives the cgroup of the place it is about, where
/// it is about one, or nothing when it did not come in time.
pub(crate) fn wait_for(
    moment: Moment,
    fleet: &Fleet<'_>,
    machine: &Machine,
) -> Outcome<Option<PathBuf>> {
    let places = machine.cgroup().join(NAMESPACE);
    let said = |word: &str| {
        let logs = Writer::witness_dirs(fleet);
        let log = format!("{}.log", machine.name());
        let says = |name: &str| {
            let written = logs.iter().filter(|_| name == log);
            let mut ends = written.map(|dir| last_line(&dir.join(&log)));
            ends.any(|line| line.split(' ').nth(3) == Some(word)).then(|| places.clone())
        };
        Watch::of(&logs, WatchFlags::MODIFY)?.wait(says)
    };
    match moment {
        Moment::Any => Ok(Some(places)),
        Moment::Creation => {
            let made = |name: &str| name.starts_with("d-").then(|| places.join(name));
            Watch::of(&[&places], WatchFlags::CREATE)?.wait(made)
        }
        Moment::Prepared => said("prepared"),
        Moment::Hook => said("hook"),
        Moment::Stop => said("stopping"),
        Moment::Gap => said("ended"),
        Moment::Exec => {
            let containers = below(&machine.cgroup(), |leaf| leaf.starts_with("c-"));
            let begins = |name: &str| name.starts_with("exec-").then(|| places.clone());
            Watch::of(&containers, WatchFlags::CREATE)?.wait(begins)
        }
        Moment::Rotation => {
            let logs = below(&machine.data_dir(), |leaf| leaf == "logs");
            let rotates = |name: &str| name.contains(".log.").then(|| places.clone());
            Watch::of(&logs, WatchFlags::MOVED_TO)?.wait(rotates)
        }
        Moment::Ledger => {
            let copies = ["ledger.a.tmp", "ledger.b.tmp"];
            let writes = |name: &str| copies.contains(&name).then(|| places.clone());
            Watch::of(&[&machine.data_dir()], WatchFlags::CREATE)?.wait(writes)
        }
        Moment::Store => {
            let store = fleet.coordinator().data_dir();
            let writes = |name: &str| name.ends_with("-wal").then(|| places.clone());
            Watch::of(&[&store], WatchFlags::MODIFY)?.wait(writes)
        }
        Moment::Rollout => {
            let logs = Writer::witness_dirs(fleet);
            let under_way = |_: &str| {
                let mixed =
                    logs.iter().any(|dir| marks(fleet, dir).windows(2).any(|w| w[0] != w[1]));
                mixed.then(|| places.clone())
            };
            Watch::of(&logs, WatchFlags::MODIFY)?.wait(under_way)
        }
    }
}

/// The `nth` of those in this place, or in places below, that are supervisors, or workloads; waits a
/// moment for the first of them.
pub(crate) fn member(place: &Path, supervisor: bool, nth: usize) -> Option<Process> {
    let begun = Instant::now();
    let wanted = |cgroup: &Path| {
        let leaf = cgroup.file_name().unwrap_or_default().to_string_lossy().into_owned();
        if supervisor { leaf == "shim" } else { leaf != "shim" }
    };
    loop {
        let mut members = cgroups::members(place);
        members.retain(|(cgroup, _)| wanted(cgroup));
        if !members.is_empty() || begun.elapsed() > PATIENCE / 8 {
            let nth = nth.checked_rem(members.len())?;
            return Some(members.swap_remove(nth).1);
        }
        std::thread::yield_now();
    }
}

/// The directories below this one whose names are so.
fn below(dir: &Path, is_it: impl Fn(&str) -> bool) -> Vec<PathBuf> {
    let mut all = cgroups::tree(dir);
    all.retain(|path| is_it(&path.file_name().unwrap_or_default().to_string_lossy()));
    all
}

/// The mark of what ran last on each machine that has run something.
fn marks(fleet: &Fleet<'_>, dir: &Path) -> Vec<String> {
    let logs = fleet.machines().map(|machine| dir.join(format!("{}.log", machine.name())));
    let mark = |line: String| line.split(' ').nth(2).map(str::to_owned);
    logs.filter_map(|log| mark(last_line(&log))).collect()
}

/// The last whole line of a log; empty where there is none.
fn last_line(log: &Path) -> String {
    let read = || {
        let mut file = File::open(log).ok()?;
        let length = file.metadata().ok()?.len();
        file.seek(SeekFrom::Start(length.saturating_sub(TAIL))).ok()?;
        let mut text = String::new();
        file.read_to_string(&mut text).ok()?;
        Some(text.strip_suffix('\n')?.rsplit('\n').next()?.to_owned())
    };
    read().unwrap_or_default()
}

/// Looks at directories for what happens in them.
struct Watch(OwnedFd);

impl Watch {
    fn of(dirs: &[impl AsRef<Path>], what: WatchFlags) -> Outcome<Self> {
        let flags = CreateFlags::NONBLOCK | CreateFlags::CLOEXEC;
        let watch = inotify::init(flags).map_err(std::io::Error::from)?;
        for dir in dirs {
            // One that is not there now has nothing happening in it.
            match inotify::add_watch(&watch, dir.as_ref(), what) {
                Ok(_) | Err(rustix::io::Errno::NOENT) => {}
                Err(error) => {
                    return Err(std::io::Error::from(error)).context(dir.as_ref().display());
                }
            }
        }
        Ok(Self(watch))
    }

    /// What `is_it` makes of the name of the first file about which it is.
    fn wait<T>(&self, is_it: impl Fn(&str) -> Option<T>) -> Outcome<Option<T>> {
        let begun = Instant::now();
        while begun.elapsed() < PATIENCE {
            let mut fds = [PollFd::new(&self.0, PollFlags::IN)];
            rustix::event::poll(&mut fds, Some(&BETWEEN)).map_err(std::io::Error::from)?;
            let mut room = [MaybeUninit::uninit(); EVENTS];
            let mut reader = Reader::new(&self.0, &mut room);
            while let Ok(event) = reader.next() {
                let name = event.file_name().map(|name| name.to_string_lossy().into_owned());
                if let Some(found) = is_it(&name.unwrap_or_default()) {
                    return Ok(Some(found));
                }
            }
        }
        Ok(None)
    }
}
