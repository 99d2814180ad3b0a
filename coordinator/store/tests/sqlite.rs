//! The sqlite engine: the contract, and what only a file can promise.

// See `contract`.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod contract;

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;

use everynode_store::sqlite::{Draft, Options, Place, Summary, read_file};
use everynode_store::{SqliteStore, Store, StoreError, Txn};
use tempfile::TempDir;

use crate::contract::{Fixture, commit, events, put};

fn fixture() -> Fixture {
    let (directory, path) = place();
    Fixture { store: open(&path), _guard: Box::new(directory) }
}

contract::contract!(fixture);

fn place() -> (TempDir, PathBuf) {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("store.db");
    (directory, path)
}

fn open(path: &Path) -> Arc<dyn Store> {
    Arc::new(SqliteStore::open(path, Options::default()).expect("opens"))
}

fn refused(path: &Path) -> StoreError {
    SqliteStore::open(path, Options::default()).expect_err("must be refused")
}

#[tokio::test]
async fn reopening_finds_everything() {
    let (_directory, path) = place();
    let store = open(&path);
    put(&store, "/a", "1").await;
    put(&store, "/a", "2").await;
    commit(&store, Txn::new().delete("/a")).await;
    store.compact(2).await.unwrap();
    drop(store);
    let store = open(&path);
    assert_eq!(store.revision().await.unwrap(), 3);
    assert!(matches!(store.list("/", Some(1)).await, Err(StoreError::Compacted { oldest: 2, .. })));
    assert_eq!(store.list("/", Some(2)).await.unwrap().items.len(), 1);
    let mut watch = store.watch("/", 2).await.unwrap();
    assert_eq!(events(&mut watch, 2).await[1].revision, 3);
    assert_eq!(put(&store, "/a", "4").await, 4);
    drop(store);
    assert!(matches!(contract::next(&mut watch).await, Some(Ok(_))));
    assert!(matches!(contract::next(&mut watch).await, Some(Err(StoreError::Closed))));
}

const CHILD: &str = "EVERYNODE_STORE_TEST_CHILD";
const BATCHES: u64 = 200;

/// Not a test by itself: the process that `acknowledged_writes_survive_kill` kills.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn child_that_commits_until_killed() {
    let Some(path) = std::env::var_os(CHILD) else { return };
    let store = open(Path::new(&path));
    let writers = (0..4).map(|writer| {
        let store = Arc::clone(&store);
        async move {
            for n in 0_u64.. {
                let key = format!("/{writer}/{n}");
                let revision = put(&store, &key, &key).await;
                let line = format!("{revision} {key}\n");
                // Not `println!`, which the test harness would keep.
                std::io::stdout().lock().write_all(line.as_bytes()).unwrap();
            }
        }
    });
    futures_util::future::join_all(writers).await;
}

#[tokio::test]
async fn acknowledged_writes_survive_kill() {
    let (_directory, path) = place();
    let mut acknowledged: Vec<(u64, String)> = Vec::new();
    for life in 1..=3 {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "child_that_commits_until_killed", "--nocapture", "--quiet"])
            .env(CHILD, &path)
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let parse = |line: String| {
            let (revision, key) = line.split_once(' ')?;
            Some((revision.parse().ok()?, key.to_owned()))
        };
        let before = acknowledged.len() as u64;
        while (acknowledged.len() as u64) < before + BATCHES {
            acknowledged.extend(parse(lines.next().expect("the child goes on").unwrap()));
        }
        child.kill().unwrap();
        // What it printed before it died was acknowledged too; a torn last line was not.
        acknowledged.extend(lines.map_while(Result::ok).filter_map(parse));
        child.wait().unwrap();
        let store = open(&path);
        for (revision, key) in &acknowledged {
            let at = store.list(key, Some(*revision)).await.unwrap();
            let found = at.items.iter().find(|item| item.key == *key).expect("acknowledged");
            assert_eq!(found.mod_revision, *revision, "{key} after death {life}");
        }
        assert!(store.revision().await.unwrap() >= acknowledged.len() as u64);
    }
}

#[tokio::test]
async fn a_second_opener_is_refused_until_the_first_is_gone() {
    let (_directory, path) = place();
    let store = open(&path);
    let error = refused(&path);
    assert!(matches!(error, StoreError::Locked { .. }), "{error:?}");
    assert!(error.to_string().contains(path.to_str().unwrap()), "{error}");
    put(&store, "/a", "still ours").await;
    drop(store);
    assert_eq!(open(&path).revision().await.unwrap(), 1);
}

#[tokio::test]
async fn a_newer_schema_is_refused_untouched() {
    let (_directory, path) = place();
    put(&open(&path), "/a", "").await;
    set_header(&path, 60, 2);
    let before = fs::read(&path).unwrap();
    let error = refused(&path);
    assert!(matches!(error, StoreError::Newer { found: 2, supported: 1, .. }), "{error:?}");
    assert_eq!(fs::read(&path).unwrap(), before);
}

#[tokio::test]
async fn anothers_database_is_refused_untouched() {
    let (_directory, path) = place();
    put(&open(&path), "/a", "").await;
    set_header(&path, 68, 0);
    let before = fs::read(&path).unwrap();
    assert!(matches!(refused(&path), StoreError::NotAStore { found: 0, .. }));
    assert_eq!(fs::read(&path).unwrap(), before);
}

/// Sets a big-endian word of the file's header.
fn set_header(path: &Path, at: usize, word: u32) {
    let mut bytes = fs::read(path).unwrap();
    bytes[at..at + 4].copy_from_slice(&word.to_be_bytes());
    fs::write(path, bytes).unwrap();
}

#[tokio::test]
async fn damage_has_a_name() {
    let (directory, path) = place();
    let store = open(&path);
    for n in 0..500 {
        put(&store, &format!("/{n}"), &"v".repeat(100)).await;
    }
    drop(store);
    let whole = fs::read(&path).unwrap();
    let middle = whole.len() / 4096 / 2 * 4096;
    let mut scribbled = whole.clone();
    scribbled[middle..middle + 4096].fill(0xa5);
    let damaged: [(&str, &[u8]); 5] = [
        ("empty", b""),
        ("shorter than a header", &whole[..50]),
        ("truncated", &whole[..middle]),
        ("scribbled", &scribbled),
        ("text", &[b'x'; 4096]),
    ];
    for (how, bytes) in damaged {
        fs::write(&path, bytes).unwrap();
        let error = refused(&path);
        assert!(matches!(error, StoreError::Corrupt { .. }), "{how}: {error:?}");
        assert!(error.to_string().contains(path.to_str().unwrap()), "{how}: {error}");
    }
    fs::remove_file(&path).unwrap();
    fs::write(directory.path().join("store.db-wal"), b"left over").unwrap();
    assert!(matches!(refused(&path), StoreError::Corrupt { .. }), "a log without its database");
}

/// Another way to write `Draft::copy(..)?.publish(false)`.
fn backup(from: &Path, to: &Path) -> everynode_store::Result<()> {
    Draft::copy(from, to)?.publish(false)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_backup_taken_under_load_is_a_store_as_of_one_revision() {
    let (directory, path) = place();
    let copy = directory.path().join("backup.db");
    let store = open(&path);
    for n in 0..200 {
        put(&store, &format!("/{n}"), &"v".repeat(3000)).await;
    }
    let load = async {
        for n in 0..200 {
            put(&store, &format!("/{n}"), "changed").await;
        }
    };
    let (from, to) = (path.clone(), copy.clone());
    let copying = tokio::task::spawn_blocking(move || backup(&from, &to));
    let (copied, ()) = tokio::join!(copying, load);
    copied.unwrap().unwrap();
    assert_eq!(mode(&copy), 0o600);
    assert!(matches!(backup(&path, &copy), Err(StoreError::Exists { .. })));
    let (summary, items) = read_file(&copy).unwrap();
    assert_eq!(
        names(directory.path()),
        ["backup.db", "store.db", "store.db-shm", "store.db-wal", "store.db.lock",]
    );
    let original = store.list("", Some(summary.revision)).await.unwrap();
    assert_eq!(items, original.items);
    assert_eq!(summary, Summary { revision: original.revision, oldest: 0, keys: 200 });
    assert_eq!(open(&copy).list("", None).await.unwrap(), original, "and it opens as a store");
}

#[tokio::test]
async fn a_store_in_use_can_be_verified_and_backed_up_by_its_path() {
    let (directory, path) = place();
    let store = open(&path);
    commit(&store, Txn::new().put("/a", "").put("/b", "")).await;
    commit(&store, Txn::new().delete("/b")).await;
    let (summary, items) = read_file(&path).unwrap();
    assert_eq!(summary, Summary { revision: 2, oldest: 0, keys: 1 });
    assert_eq!(items[0].key, "/a");
    let copy = directory.path().join("copy.db");
    backup(&path, &copy).unwrap();
    assert_eq!(put(&store, "/c", "").await, 3);
    assert_eq!(read_file(&copy).unwrap().0.revision, 2);
    assert!(matches!(refused(&path), StoreError::Locked { .. }));
}

#[tokio::test]
async fn looking_changes_nothing() {
    let (directory, path) = place();
    let store = open(&path);
    put(&store, "/a", "1").await;
    // As a killed server leaves it: the log holds everything.
    let killed = directory.path().join("killed");
    fs::create_dir(&killed).unwrap();
    for name in names(directory.path()).iter().filter(|name| *name != "killed") {
        fs::copy(directory.path().join(name), killed.join(name)).unwrap();
    }
    drop(store);
    let logged = killed.join("store.db");
    let contents = |directory: &Path| {
        let names = names(directory).into_iter().filter(|name| name.starts_with("store.db"));
        let kept = names.filter(|name| !name.ends_with("-shm"));
        kept.map(|name| (name.clone(), fs::read(directory.join(name)).unwrap())).collect::<Vec<_>>()
    };
    for (store, directory) in [(&path, directory.path()), (&logged, killed.as_path())] {
        let before = contents(directory);
        assert_eq!(read_file(store).unwrap().0.revision, 1);
        backup(store, &directory.join("copy.db")).unwrap();
        assert_eq!(contents(directory), before);
    }
    assert_eq!(read_file(killed.join("copy.db")).unwrap().0.revision, 1);
}

#[tokio::test]
async fn a_copy_that_was_given_up_leaves_nothing_and_one_that_was_killed_is_in_nobodys_way() {
    let (directory, path) = place();
    put(&open(&path), "/a", "1").await;
    let to = directory.path().join("copy.db");
    let draft = Draft::copy(&path, &to).unwrap();
    assert!(matches!(Draft::copy(&path, &to), Err(StoreError::Locked { .. })), "one at a time");
    drop(SqliteStore::open(draft.path(), Options::default()).unwrap());
    drop(draft);
    assert_eq!(names(directory.path()), ["store.db", "store.db.lock"]);
    for left in ["copy.db.partial", "copy.db.partial-wal", "copy.db.partial-journal"] {
        fs::write(directory.path().join(left), "left by a killed one").unwrap();
    }
    backup(&path, &to).unwrap();
    assert_eq!(names(directory.path()), ["copy.db", "store.db", "store.db.lock"]);
    fs::write(&to, "another's").unwrap();
    assert!(matches!(backup(&path, &to), Err(StoreError::Exists { .. })));
    assert_eq!(fs::read(&to).unwrap(), b"another's");
    Draft::copy(&path, &to).unwrap().publish(true).unwrap();
    assert_eq!(read_file(&to).unwrap().0.keys, 1);
}

#[tokio::test]
async fn a_copy_is_its_owners_alone_whatever_was_laid_in_its_way() {
    let (directory, path) = place();
    put(&open(&path), "/a", "secret").await;
    let to = directory.path().join("copy.db");
    let laid = directory.path().join("copy.db.partial");
    fs::write(&laid, "").unwrap();
    fs::set_permissions(&laid, fs::Permissions::from_mode(0o666)).unwrap();
    backup(&path, &to).unwrap();
    assert_eq!(mode(&to), 0o600);
    let elsewhere = directory.path().join("elsewhere");
    fs::write(&elsewhere, "another's").unwrap();
    std::os::unix::fs::symlink(&elsewhere, &laid).unwrap();
    assert!(Draft::copy(&path, &to).is_err());
    assert_eq!(fs::read(&elsewhere).unwrap(), b"another's");
}

/// SQLite would fold it into the copy.
#[tokio::test]
async fn a_copy_does_not_take_a_name_beside_which_the_log_of_another_store_is() {
    let (directory, path) = place();
    let store = open(&path);
    put(&store, "/a", "1").await;
    let log = fs::read(directory.path().join("store.db-wal")).unwrap();
    assert!(!log.is_empty());
    let to = directory.path().join("copy.db");
    fs::write(directory.path().join("copy.db-wal"), &log).unwrap();
    assert!(matches!(backup(&path, &to), Err(StoreError::Exists { path }) if path != to));
    assert!(!to.exists());
    fs::write(directory.path().join("copy.db-wal"), "").unwrap();
    backup(&path, &to).unwrap();
}

#[tokio::test]
async fn a_log_is_folded_in_whole_or_not_at_all() {
    let (_directory, path) = place();
    let store = open(&path);
    put(&store, "/a", "1").await;
    let reader = rusqlite::Connection::open(&path).unwrap();
    reader.execute_batch("BEGIN; SELECT * FROM sqlite_schema").unwrap();
    let seen: i64 =
        reader.query_row("SELECT count(*) FROM sqlite_schema", [], |row| row.get(0)).unwrap();
    assert!(seen > 0);
    put(&store, "/a", "2").await;
    drop(store);
    let held = Place::hold(&path).unwrap();
    assert!(matches!(held.fold_log(), Err(StoreError::Locked { .. })));
    drop(reader);
    held.fold_log().unwrap();
}

#[tokio::test]
async fn another_store_takes_the_place_and_the_former_is_kept() {
    let (directory, path) = place();
    let store = open(&path);
    put(&store, "/a", "old").await;
    let copy = directory.path().join("copy.db");
    backup(&path, &copy).unwrap();
    put(&store, "/a", "new").await;
    assert!(matches!(Place::hold(&path), Err(StoreError::Locked { .. })));
    drop(store);
    let held = Place::hold(&path).unwrap();
    assert!(matches!(refused(&path), StoreError::Locked { .. }));
    held.fold_log().unwrap();
    let kept = held.replace(Draft::copy(&copy, &path).unwrap(), "today").unwrap().unwrap();
    assert_eq!(kept, directory.path().join("store.db.before-restore-today"));
    let value = |path: &Path| read_file(path).unwrap().1[0].value.clone();
    assert_eq!((value(&path), value(&kept)), ("old".into(), "new".into()));
    put(&open(&path), "/a", "newest").await;
    assert_eq!(value(&kept), "new", "two files, not two names of one");
}

/// A log of another store, or of none, must not be folded into the one that is put there.
#[tokio::test]
async fn a_log_never_stands_beside_a_store_that_it_is_not_of() {
    let (directory, path) = place();
    let store = open(&path);
    put(&store, "/a", "old").await;
    let copy = directory.path().join("copy.db");
    backup(&path, &copy).unwrap();
    put(&store, "/a", "in the log").await;
    let log = fs::read(directory.path().join("store.db-wal")).unwrap();
    drop(store);
    fs::write(directory.path().join("store.db-wal"), &log).unwrap();
    fs::write(&path, b"damaged").unwrap();
    let held = Place::hold(&path).unwrap();
    assert!(held.fold_log().is_err());
    fs::write(directory.path().join("store.db-journal"), "half a change").unwrap();
    let kept = held.replace(Draft::copy(&copy, &path).unwrap(), "1").unwrap().unwrap();
    assert_eq!(open(&path).get("/a").await.unwrap().unwrap().value, "old");
    assert_eq!(fs::read(&kept).unwrap(), b"damaged");
    assert_eq!(fs::read(kept.with_file_name("store.db.before-restore-1-wal")).unwrap(), log);
    let journal = fs::read(kept.with_file_name("store.db.before-restore-1-journal"));
    assert_eq!(journal.unwrap(), b"half a change");
}

#[tokio::test]
async fn what_cannot_be_kept_is_not_replaced_and_keeps_its_log() {
    let (directory, path) = place();
    put(&open(&path), "/a", "1").await;
    let copy = directory.path().join("copy.db");
    backup(&path, &copy).unwrap();
    fs::remove_file(&path).unwrap();
    // What no file system gives a second name.
    fs::create_dir(&path).unwrap();
    let log = directory.path().join("store.db-wal");
    fs::write(&log, "its log").unwrap();
    let held = Place::hold(&path).unwrap();
    held.replace(Draft::copy(&copy, &path).unwrap(), "1").unwrap_err();
    assert_eq!(fs::read(&log).unwrap(), b"its log");
    assert!(path.is_dir());
}

#[tokio::test]
async fn a_second_name_that_a_killed_restore_left_is_taken_away() {
    let (directory, path) = place();
    put(&open(&path), "/a", "").await;
    let second = directory.path().join("store.db.before-restore-now");
    fs::hard_link(&path, &second).unwrap();
    let store = open(&path);
    assert!(!second.exists());
    put(&store, "/b", "").await;
}

/// Where the log of a store that was not closed is gone, acknowledged writes are gone with it.
#[tokio::test]
async fn a_log_that_is_missing_or_anothers_is_told_from_one_that_belongs() {
    let (directory, path) = place();
    let killed = directory.path().join("killed");
    fs::create_dir(&killed).unwrap();
    let store = open(&path);
    put(&store, "/a", "acknowledged").await;
    for name in ["store.db", "store.db.lock"] {
        fs::copy(directory.path().join(name), killed.join(name)).unwrap();
    }
    let error = refused(&killed.join("store.db"));
    assert!(matches!(&error, StoreError::Corrupt { detail, .. } if detail.contains("-wal")));
    // One of another store beside one that was closed would be folded in.
    let log = fs::read(directory.path().join("store.db-wal")).unwrap();
    drop(store);
    drop(open(&path));
    let before = fs::read(&path).unwrap();
    fs::write(directory.path().join("store.db-wal"), log).unwrap();
    let error = refused(&path);
    assert!(matches!(&error, StoreError::Corrupt { detail, .. } if detail.contains("another")));
    assert!(matches!(read_file(&path), Err(StoreError::Corrupt { .. })), "looking, too");
    assert_eq!(fs::read(&path).unwrap(), before);
    fs::write(directory.path().join("store.db-wal"), "").unwrap();
    drop(open(&path));
    // A lock file of an earlier version says nothing.
    fs::write(directory.path().join("store.db.lock"), "").unwrap();
    assert_eq!(open(&path).revision().await.unwrap(), 1);
}

/// The names in a directory, in order.
fn names(directory: &Path) -> Vec<String> {
    let entries = fs::read_dir(directory).unwrap();
    let mut names: Vec<_> =
        entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

fn mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap().permissions().mode() & 0o777
}

#[tokio::test]
async fn every_file_is_for_its_owner_alone() {
    let (directory, path) = place();
    let store = open(&path);
    put(&store, "/secret", "").await;
    let mut names = Vec::new();
    for entry in fs::read_dir(directory.path()).unwrap() {
        let entry = entry.unwrap();
        assert_eq!(mode(&entry.path()), 0o600, "{entry:?}");
        names.push(entry.file_name().into_string().unwrap());
    }
    names.sort();
    assert_eq!(names, ["store.db", "store.db-shm", "store.db-wal", "store.db.lock"]);
}

#[tokio::test]
async fn a_mode_that_was_widened_is_narrowed() {
    let (_directory, path) = place();
    drop(open(&path));
    fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
    let store = open(&path);
    put(&store, "/secret", "").await;
    assert_eq!(mode(&path), 0o600);
    assert_eq!(mode(&path.with_file_name("store.db-wal")), 0o600);
}

#[tokio::test]
async fn a_full_store_refuses_writes_and_recovers() {
    let (_directory, path) = place();
    let options = Options { max_bytes: Some(400 * 1024) };
    let store: Arc<dyn Store> = Arc::new(SqliteStore::open(&path, options).unwrap());
    let value = "v".repeat(50_000);
    let mut stored = 0;
    let error = loop {
        match store.txn(Txn::new().put("/a", value.clone())).await {
            Ok(_) => stored += 1,
            Err(error) => break error,
        }
    };
    assert!(matches!(error, StoreError::Full { .. }), "{error:?}");
    assert!(stored > 2);
    assert_eq!(store.revision().await.unwrap(), stored, "a failed commit takes no revision");
    assert_eq!(store.get("/a").await.unwrap().unwrap().mod_revision, stored);
    store.compact(stored).await.unwrap();
    assert_eq!(put(&store, "/a", &value).await, stored + 1);
}
