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

use everynode_store::sqlite::{Options, Summary, backup_file, verify_file};
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

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_backup_taken_under_load_is_a_store_as_of_one_revision() {
    let (directory, path) = place();
    let backup = directory.path().join("backup.db");
    let sqlite = Arc::new(SqliteStore::open(&path, Options::default()).unwrap());
    let store: Arc<dyn Store> = Arc::clone(&sqlite) as Arc<dyn Store>;
    for n in 0..200 {
        put(&store, &format!("/{n}"), &"v".repeat(3000)).await;
    }
    let load = async {
        for n in 0..200 {
            put(&store, &format!("/{n}"), "changed").await;
        }
    };
    let (copied, ()) = tokio::join!(sqlite.backup_to(&backup), load);
    copied.unwrap();
    assert_eq!(mode(&backup), 0o600);
    assert!(matches!(sqlite.backup_to(&backup).await, Err(StoreError::Exists { .. })));
    let summary = verify_file(&backup).unwrap();
    let copy = open(&backup);
    let (taken, original) =
        (copy.list("", None).await.unwrap(), store.list("", Some(summary.revision)).await.unwrap());
    assert_eq!(taken, original);
    assert_eq!(summary, Summary { revision: taken.revision, oldest: 0, keys: 200 });
}

#[tokio::test]
async fn a_store_in_use_can_be_verified_and_backed_up_by_its_path() {
    let (directory, path) = place();
    let store = open(&path);
    commit(&store, Txn::new().put("/a", "").put("/b", "")).await;
    commit(&store, Txn::new().delete("/b")).await;
    assert_eq!(verify_file(&path).unwrap(), Summary { revision: 2, oldest: 0, keys: 1 });
    let copy = directory.path().join("copy.db");
    backup_file(&path, &copy).unwrap();
    assert_eq!(put(&store, "/c", "").await, 3);
    assert_eq!(verify_file(&copy).unwrap().revision, 2);
    assert!(matches!(refused(&path), StoreError::Locked { .. }));
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
