//! A store that is not what it was: refused in one line that says what to do, never emptied, never
//! changed, and put back by a restore.

use std::fs;
use std::path::Path;
use std::process::Command;

use everynode_store::SqliteStore;
use everynode_store::sqlite::Options;

use crate::place::{Place, names};

/// Sees that a coordinator refuses to serve, changes nothing, and serves again after a restore.
fn refused_until_restored(place: &Place, copy: &str, says: &[&str]) {
    let cluster = everynode_coordinator::store::look(Path::new(copy)).unwrap().cluster.id;
    let store = || fs::read(place.store()).ok();
    let before = store();
    place.refused(&Place::SERVE, says);
    assert!(store() == before, "{says:?}: the store was changed");
    place.ok(&["store", "restore", copy]);
    let serving = place.serve();
    assert!(serving.said.iter().any(|line| line.contains("orders are held")));
    serving.stop();
    let held = place.held();
    assert_eq!(held.cluster.id, cluster);
    assert!(held.hold.is_some(), "starting again does not give orders");
}

#[test]
fn damage_is_refused_and_a_restore_mends_it() {
    let place = Place::with_nodes(120);
    let copy = place.backup("copy.db");
    let whole = fs::read(place.store()).unwrap();
    let pages = whole.len() / 4096;
    assert!(pages > 8, "{pages} pages");
    let mut scribbled = whole.clone();
    scribbled[pages / 2 * 4096..][..4096].fill(0xa5);
    let word = |at: usize, word: u32| {
        let mut bytes = whole.clone();
        bytes[at..at + 4].copy_from_slice(&word.to_be_bytes());
        bytes
    };
    let sound = place.snapshot();
    let path = place.store().display().to_string();
    let damaged: [(&str, Vec<u8>, &[&str]); 7] = [
        ("a scribbled page", scribbled, &["damaged", "restore a backup"]),
        ("cut short", whole[..pages / 2 * 4096].to_vec(), &["damaged", "restore a backup"]),
        ("empty", Vec::new(), &["damaged", "shorter than its header", "restore a backup"]),
        ("text", vec![b'x'; 8192], &["damaged", "not an SQLite file", "restore a backup"]),
        ("another program's", word(68, 0), &["not an Everynode store", "check the path"]),
        ("of a newer release", word(60, 99), &["schema version 99", "run the newer release"]),
        ("cut within its header", whole[..60].to_vec(), &["damaged", "restore a backup"]),
    ];
    for (how, bytes, says) in damaged {
        place.put_back(&sound);
        fs::write(place.store(), &bytes).unwrap();
        place.refused(&["store", "verify"], &[&path]);
        assert!(fs::read(place.store()).unwrap() == bytes, "{how}: verify changed it");
        let says: Vec<&str> = says.iter().copied().chain([path.as_str()]).collect();
        refused_until_restored(&place, &copy, &says);
        let kept = names(&place.data(), "store.db.before-restore-");
        assert!(fs::read(place.file(&kept[0])).unwrap() == bytes, "{how}: it is kept");
    }
}

#[test]
fn a_lost_store_is_not_the_beginning_of_a_new_cluster() {
    let place = Place::with_nodes(3);
    let copy = place.backup("copy.db");
    let sound = place.snapshot();
    fs::remove_file(place.store()).unwrap();
    let says = ["store.db is gone", "store restore"];
    refused_until_restored(&place, &copy, &says);

    // Also where only admin.conf remembers it.
    place.put_back(&sound);
    fs::remove_file(place.store()).unwrap();
    fs::remove_file(place.file("cluster.json")).unwrap();
    refused_until_restored(&place, &copy, &says);

    // And where somebody put an empty one there.
    place.put_back(&sound);
    fs::remove_file(place.store()).unwrap();
    fs::remove_file(place.file("store.db.lock")).unwrap();
    drop(SqliteStore::open(place.store(), Options::default()).unwrap());
    place.refused(&["store", "verify"], &["1 faults"]);
    refused_until_restored(&place, &copy, &["the store is empty", "store restore"]);
}

#[test]
fn another_clusters_store_is_not_served_from_here() {
    let (place, other) = (Place::with_nodes(3), Place::with_nodes(3));
    let (copy, others) = (place.backup("copy.db"), other.backup("copy.db"));
    let (sound, mine) = (place.snapshot(), place.held().cluster.id.to_string());
    fs::copy(&others, place.store()).unwrap();
    let theirs = other.held().cluster.id.to_string();
    place.refused(&Place::SERVE, &[&theirs, &mine, "store restore"]);
    place.put_back(&sound);
    place.refused(&["store", "restore", &others, "--force"], &[&theirs, &mine, "nothing was"]);
    place.is_as_it_was(&sound);
    // What nothing else tells, admin.conf does.
    fs::copy(&others, place.store()).unwrap();
    fs::remove_file(place.file("cluster.json")).unwrap();
    refused_until_restored(&place, &copy, &[&theirs, &mine]);
}

#[test]
fn an_older_copy_that_was_put_there_by_hand_is_refused() {
    let place = Place::with_nodes(3);
    let copy = place.backup("copy.db");
    place.serve().stop();
    fs::copy(&copy, place.store()).unwrap();
    refused_until_restored(&place, &copy, &["term 1", "term 2", "store restore"]);
    assert_eq!(place.held().cluster.term.0, 1002, "above what was served");
}

#[test]
fn a_log_that_is_gone_or_anothers_is_told() {
    let (place, other) = (Place::with_nodes(3), Place::with_nodes(9));
    let copy = place.backup("copy.db");
    place.serve().kill();
    let killed = place.snapshot();
    place.serve().stop();
    place.put_back(&killed);
    fs::remove_file(place.file("store.db-wal")).unwrap();
    refused_until_restored(&place, &copy, &["was not closed", "store.db-wal is gone"]);

    other.serve().kill();
    fs::copy(other.file("store.db-wal"), place.file("store.db-wal")).unwrap();
    let before = fs::read(place.store()).unwrap();
    place.refused(&Place::SERVE, &["the log of another"]);
    assert!(fs::read(place.store()).unwrap() == before);
    fs::remove_file(place.file("store.db-wal")).unwrap();
    place.serve().stop();
}

#[test]
fn a_record_that_can_not_be_is_named_by_verify_and_not_served() {
    use everynode_store::{Store as _, Txn};
    let place = Place::with_nodes(3);
    let copy = place.backup("copy.db");
    let store = SqliteStore::open(place.store(), Options::default()).unwrap();
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let revision = "/revisions/00000000-0000-0000-0000-000000000009/".to_owned() + &"ab".repeat(32);
    let txn = Txn::new().put("/nodes/x", "").put(revision.clone(), "");
    runtime.block_on(store.txn(txn)).unwrap();
    drop(store);
    let output = place.run(&["store", "verify"]);
    let told = String::from_utf8(output.stdout).unwrap();
    assert_eq!((output.status.code(), told.lines().count()), (Some(1), 2), "{told}");
    assert!(told.contains("/nodes/x") && told.contains(&revision), "{told}");
    let file = place.outside("unsound.db").display().to_string();
    place.refused(&["store", "backup", &file], &["not sound", "/nodes/x"]);
    assert!(!Path::new(&file).exists());
    refused_until_restored(&place, &copy, &["/nodes/x"]);
}

#[test]
fn a_store_that_can_not_be_written_is_told() {
    let place = Place::with_nodes(3);
    // A namespace of its own, so that nothing stays mounted.
    let script = r#"mount --bind "$1" "$1" && mount -o remount,bind,ro "$1" && shift && exec "$@""#;
    let mut command = Command::new("unshare");
    command.args(["--mount", "sh", "-c", script, "sh"]).arg(place.store());
    command.arg(crate::place::PROGRAM).args(Place::SERVE).arg("--data-dir").arg(place.data());
    let output = command.output().unwrap();
    let told = String::from_utf8(output.stderr).unwrap();
    if told.starts_with("unshare:") || told.starts_with("mount:") {
        println!("skipped: nothing can be mounted here");
        return;
    }
    assert_eq!(output.status.code(), Some(1), "{told}");
    assert!(told.contains("store.db is read-only: check the mount"), "{told}");
}
