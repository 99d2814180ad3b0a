//! Killed at every file operation of a backup and of a restore: what is in the place is the one from
//! before, whole, or the new one, whole; and the next attempt succeeds.
//!
//! `strace` kills the program (`-e inject`) when it makes a call of a kind for the Nth time, for each
//! kind and each N until it comes through. Where it can't trace, the test says so and passes.
//! `EVERYNODE_KILLS=all` leaves none out.

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use everynode_coordinator::store::{Held, look};
use everynode_store::sqlite::Options;
use everynode_store::{SqliteStore, StoreError};

use crate::place::{PROGRAM, Place, names};

/// Calls that change something on a disk.
const CALLS: [&str; 9] = [
    "pwrite64",
    "write",
    "fsync",
    "fdatasync",
    "ftruncate",
    "rename,renameat,renameat2",
    "link,linkat",
    "unlink,unlinkat",
    "fchmod,chmod,fchmodat",
];

/// How a run ended that was to be killed.
#[derive(PartialEq, Eq)]
enum Run {
    Killed,
    Through,
}

/// Runs the program until it makes one of `calls` for the `nth` time.
fn run(place: &Place, words: &[&str], calls: &str, nth: u32) -> Run {
    let mut command = Command::new("strace");
    command.args(["-f", "-qq", "-o", "/dev/null", "-e", &format!("trace={calls}")]);
    command.args(["-e", &format!("inject={calls}:signal=KILL:when={nth}"), PROGRAM]);
    command.args(words).arg("--data-dir").arg(place.data());
    let output = command.stdin(Stdio::null()).output().unwrap();
    // strace ends as the program did.
    match output.status.code() {
        Some(0) => Run::Through,
        Some(code) => panic!("{words:?} ended with {code}: {output:?}"),
        None => Run::Killed,
    }
}

fn can_trace() -> bool {
    let traced = Command::new("strace").args(["-f", "-qq", "-o", "/dev/null", "true"]).status();
    let can = traced.is_ok_and(|status| status.success());
    if !can {
        println!("skipped: strace can't trace here");
    }
    can
}

/// Kills `words` everywhere. `begin` sets the stage for each, `check` looks at what is left.
fn everywhere(place: &Place, words: &[&str], begin: impl Fn(), check: impl Fn(&str)) -> u32 {
    let all = std::env::var_os("EVERYNODE_KILLS").is_some();
    let mut kills = 0;
    for calls in CALLS {
        let mut nth = 1;
        loop {
            begin();
            let ended = run(place, words, calls, nth);
            check(&format!("{calls} {nth}"));
            if ended == Run::Through {
                break;
            }
            kills += 1;
            // Pages are written by the dozen, one like the other.
            nth += if all || nth < 4 { 1 } else { nth / 2 };
        }
    }
    kills
}

#[test]
fn a_killed_backup_leaves_the_former_one_or_the_new_one() {
    if !can_trace() {
        return;
    }
    let place = Place::with_nodes(20);
    let (file, former) = (place.outside("copy.db"), place.outside("former.db"));
    place.backup("former.db");
    place.join(21..=21);
    let (old, new) = (look(&former).unwrap(), place.held());
    let name = file.display().to_string();
    let mut words = vec!["store", "backup", name.as_str(), "--force"];
    let begin = || {
        fs::copy(&former, &file).unwrap();
    };
    let check = |at: &str| {
        let found = look(&file).unwrap_or_else(|error| panic!("{at}: {error}"));
        assert!(found == old || found == new, "{at}: {found:?}");
        assert_eq!(place.held(), new, "{at}: the store was changed");
    };
    let kills = everywhere(&place, &words, begin, check);
    assert!(kills > 10, "{kills} kills");

    words.pop();
    let begin = || drop(fs::remove_file(&file));
    let check = |at: &str| match look(&file) {
        Ok(found) => assert_eq!(found, new, "{at}"),
        Err(error) => assert!(!file.exists(), "{at}: {error}"),
    };
    everywhere(&place, &words, begin, check);
    let left = names(file.parent().unwrap(), "copy.db");
    assert_eq!(left, ["copy.db"], "the last, whole one used what the killed ones left");
}

/// What may be in the place: the former store or the copy, in a new term.
fn is_old_or_new(at: &str, place: &Place, old: &Held, copy: &Held) -> bool {
    let found = look(&place.store()).unwrap_or_else(|error| panic!("{at}: {error}"));
    let restored = found.hold.is_some() && found.nodes == copy.nodes;
    assert!(found == *old || restored, "{at}: {found:?}");
    // It opens for serving, too, without a log of another or a lack of its own.
    let opened = opened(place);
    assert!(opened.is_ok(), "{at}: {opened:?}");
    restored
}

/// What another test starts has a copy of a lock that was just given back, until it executes its program.
fn opened(place: &Place) -> Result<SqliteStore, StoreError> {
    let begun = Instant::now();
    loop {
        match SqliteStore::open(place.store(), Options::default()) {
            Err(StoreError::Locked { .. }) if begun.elapsed() < Duration::from_secs(30) => {
                std::thread::yield_now();
            }
            opened => return opened,
        }
    }
}

#[test]
fn a_killed_restore_leaves_the_former_store_or_the_copy() {
    if !can_trace() {
        return;
    }
    let place = Place::with_nodes(20);
    let copy = place.backup("copy.db");
    let copied = look(Path::new(&copy)).unwrap();
    place.join(21..=21);
    // As a killed coordinator leaves it: part of it is in the log.
    place.serve().kill();
    let (before, old) = (place.snapshot(), place.held());
    let words = ["store", "restore", &copy, "--force"];
    let begin = || place.put_back(&before);
    let outcomes = std::cell::Cell::new((0, 0));
    let check = |at: &str| {
        let (olds, news) = outcomes.get();
        let new = is_old_or_new(at, &place, &old, &copied);
        outcomes.set(if new { (olds, news + 1) } else { (olds + 1, news) });
        assert_eq!(look(Path::new(&copy)).unwrap(), copied, "{at}: the copy was changed");
    };
    let kills = everywhere(&place, &words, begin, check);
    let (olds, news) = outcomes.get();
    assert!(kills > 20 && olds > 10 && news >= 9, "{kills} kills, {olds} old, {news} new");
    // After a killed one the next goes through.
    place.put_back(&before);
    assert!(run(&place, &words, "rename,renameat,renameat2", 1) == Run::Killed);
    place.ok(&words);
    place.serve().stop();
    assert!(place.held().hold.is_some());
}

#[test]
fn a_killed_restore_over_a_damaged_store_leaves_it_or_the_copy() {
    if !can_trace() {
        return;
    }
    let place = Place::with_nodes(10);
    let copy = place.backup("copy.db");
    place.serve().kill();
    let damaged = b"damaged".as_slice();
    fs::write(place.store(), damaged).unwrap();
    let before = place.snapshot();
    let begin = || place.put_back(&before);
    let check = |at: &str| match look(&place.store()) {
        Ok(found) => assert!(found.hold.is_some(), "{at}: {found:?}"),
        Err(_) => assert!(fs::read(place.store()).unwrap() == damaged, "{at}"),
    };
    let kills = everywhere(&place, &["store", "restore", &copy], begin, check);
    assert!(kills > 20, "{kills} kills");
}
