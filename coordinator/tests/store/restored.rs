//! Backing up and restoring, as an operator does it.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use everynode_coordinator::store::look;
use everynode_model::Term;

use crate::place::{Place, names};

#[test]
fn a_backup_is_taken_while_the_coordinator_serves_and_says_what_it_holds() {
    let place = Place::with_nodes(5);
    let serving = place.serve();
    let file = place.outside("copy.db");
    let name = file.display().to_string();
    let told = place.ok(&["store", "backup", &name]);
    let held = look(&file).unwrap();
    let cluster = held.cluster.id.to_string();
    for word in ["is a copy of", "verified", "term 2", "5 nodes", &cluster] {
        assert!(told.contains(word), "{word}: {told}");
    }
    assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
    assert_eq!(names(file.parent().unwrap(), "copy.db"), ["copy.db"], "and nothing else");
    place.refused(&["store", "backup", &name], &[&name, "already exists"]);
    place.ok(&["store", "backup", &name, "--force"]);
    let store = place.store().display().to_string();
    place.refused(&["store", "backup", &store, "--force"], &["is the store itself"]);
    place.refused(&["store", "backup", "/nowhere/x.db"], &["/nowhere/x.db"]);
    place.refused(&["store", "restore", &name, "--force"], &["running", "stop it first"]);
    let told = place.ok(&["store", "verify"]);
    assert!(told.contains("store.db is sound") && told.contains(&cluster), "{told}");
    serving.stop();
}

#[test]
fn a_restore_begins_a_term_above_all_that_are_known_and_holds_orders() {
    let place = Place::with_nodes(3);
    let copy = place.backup("copy.db");
    place.serve().stop();
    place.serve().stop();
    place.join(4..=4);
    let former = place.held();
    assert_eq!(former.cluster.term, Term(3));
    place.refused(&["store", "restore", &copy], &["store.db is sound", "term 3", "--force"]);
    assert_eq!(place.held(), former, "nothing was changed");
    place.refused(&["store", "restore", &copy, "--force", "--term", "3"], &["--term", "above 3"]);
    place.refused(&["store", "restore", &copy, "--force", "--term", "999999999"], &["at most"]);
    let told = place.ok(&["store", "restore", &copy, "--force"]);
    for word in ["verified", "before-restore-", "term 1003", "above 3", "orders are held"] {
        assert!(told.contains(word), "{word}: {told}");
    }
    let kept = names(&place.data(), "store.db.before-restore-");
    assert_eq!(kept.len(), 1, "{kept:?}");
    assert_eq!(look(&place.file(&kept[0])).unwrap(), former);
    let held = place.held();
    assert_eq!((held.nodes, held.hold.unwrap().copied_in), (3, Term(1)));

    place.serve().kill();
    assert_eq!(place.held().cluster.term, Term(1003), "as it was said");
    place.serve().stop();
    assert!(place.held().hold.is_some(), "until somebody says so");
    let told = place.ok(&["store", "verify"]);
    assert!(told.contains("orders held"), "{told}");

    // The same store in a term that was chosen, as the alarm of a higher term asks for.
    let store = place.store().display().to_string();
    let told = place.ok(&["store", "restore", &store, "--force", "--term", "5000"]);
    assert!(told.contains("term 5000"), "{told}");
    place.serve().stop();
    let held = place.held();
    assert_eq!((held.cluster.term, held.hold.unwrap().copied_in), (Term(5000), Term(1)));
}

#[test]
fn a_copy_makes_a_coordinator_on_another_machine() {
    let place = Place::with_nodes(3);
    let copy = place.backup("copy.db");
    let new = Place::new();
    let told = new.ok(&["store", "restore", &copy]);
    assert!(!told.contains("before-restore"), "{told}");
    new.serve().stop();
    assert_eq!(new.held().cluster.id, place.held().cluster.id);
    assert!(new.file("admin.conf").exists());
}

#[test]
fn what_is_no_sound_copy_is_not_restored() {
    let place = Place::with_nodes(3);
    let before = place.snapshot();
    let file = place.outside("copy.db");
    let name = file.display().to_string();
    for (bytes, says) in [(None, "No such file"), (Some("x"), "damaged"), (Some(""), "damaged")] {
        if let Some(bytes) = bytes {
            fs::write(&file, bytes).unwrap();
        }
        place.refused(&["store", "restore", &name, "--force"], &["nothing was restored", &name]);
        let told = place.refused(&["store", "verify", &name], &[&name]);
        assert!(told.contains(says), "{told}");
        place.is_as_it_was(&before);
    }
    assert!(!Path::new(&format!("{name}.partial")).exists());
}
