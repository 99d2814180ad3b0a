use std::os::unix::fs::PermissionsExt as _;

use super::super::tests::{Entry, gz, tar_of};
use super::*;

const DIR: EntryType = EntryType::Directory;
const FILE: EntryType = EntryType::Regular;
const LINK: EntryType = EntryType::Symlink;

/// What is there after these layers: paths with contents or targets; directories end in a slash.
fn tree(layers: &[&[Entry<'_>]]) -> Result<Vec<String>, String> {
    let (directory, root) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let layers: Vec<Fetched> = layers
        .iter()
        .enumerate()
        .map(|(number, entries)| {
            let path = directory.path().join(number.to_string());
            let packed = if number % 2 == 0 { tar_of(entries) } else { gz(&tar_of(entries)) };
            fs::write(&path, packed).unwrap();
            Fetched { path, name: None }
        })
        .collect();
    unpacked(&layers, root.path(), 1 << 20)?;
    let mut seen = Vec::new();
    look(root.path(), root.path(), &mut seen);
    seen.sort();
    Ok(seen)
}

fn unpacked(layers: &[Fetched], root: &Path, max: u64) -> Result<(), String> {
    let bounds = Bounds { max, has_room: &|_| Ok(()) };
    unpack_layers(layers, root, bounds).map_err(|error| error.to_string())
}

fn look(root: &Path, at: &Path, seen: &mut Vec<String>) {
    for entry in fs::read_dir(at).unwrap().flatten() {
        let (path, kind) = (entry.path(), entry.file_type().unwrap());
        let name = path.strip_prefix(root).unwrap().display().to_string();
        if kind.is_dir() {
            seen.push(format!("{name}/"));
            look(root, &path, seen);
        } else if kind.is_symlink() {
            seen.push(format!("{name} -> {}", fs::read_link(&path).unwrap().display()));
        } else {
            seen.push(format!("{name}={}", fs::read_to_string(&path).unwrap()));
        }
    }
}

#[test]
fn what_is_above_counts() {
    let below: &[Entry<'_>] = &[
        ("a", FILE, 0o644, "1"),
        ("b/c", FILE, 0o644, "1"),
        ("d", LINK, 0o777, "a"),
        ("e/f/g", FILE, 0o644, "1"),
    ];
    let above: &[Entry<'_>] = &[
        ("./", DIR, 0o755, ""),
        ("a", FILE, 0o644, "2"),
        ("b/", DIR, 0o755, ""),
        ("d/", DIR, 0o755, ""),
        ("d/h", FILE, 0o644, "2"),
        ("e", FILE, 0o644, "2"),
        ("i", FILE, 0o644, "2"),
        ("i", FILE, 0o644, "3"),
    ];
    assert_eq!(tree(&[below, above]).unwrap(), ["a=2", "b/", "b/c=1", "d/", "d/h=2", "e=2", "i=3"]);
}

#[test]
fn marks_take_away_what_is_below_alone() {
    let below: &[Entry<'_>] = &[
        ("a/b", FILE, 0o644, "1"),
        ("a/c/d", FILE, 0o644, "1"),
        ("e/f", FILE, 0o644, "1"),
        ("e/g/h", FILE, 0o644, "1"),
        ("i", LINK, 0o777, "e"),
    ];
    let above: &[Entry<'_>] = &[
        ("a/c/new", FILE, 0o644, "2"),
        ("a/.wh.b", FILE, 0o644, ""),
        ("a/.wh.none", FILE, 0o644, ""),
        ("a/.wh.c", FILE, 0o644, ""),
        ("e/g/new", FILE, 0o644, "2"),
        ("e/.wh..wh..opq", FILE, 0o644, ""),
        ("e/late", FILE, 0o644, "2"),
        ("i/.wh.f", FILE, 0o644, ""),
        (".wh..wh.plnk", DIR, 0o755, ""),
    ];
    let wanted = ["a/", "a/c/", "a/c/new=2", "e/", "e/g/", "e/g/new=2", "e/late=2", "i -> e"];
    assert_eq!(tree(&[below, above]).unwrap(), wanted);
    let all: &[Entry<'_>] = &[(".wh..wh..opq", FILE, 0o644, "")];
    assert_eq!(tree(&[below, above, all]).unwrap(), [""; 0]);
    assert_eq!(
        tree(&[below, &[(".wh.a", FILE, 0o644, ""), (".wh.i", FILE, 0, "")]]).unwrap().len(),
        4
    );
}

#[test]
fn links_of_an_image_are_of_its_own_root() {
    let links: &[Entry<'_>] = &[
        ("bin/sh", LINK, 0o777, "/usr/bin/busybox"),
        ("top", LINK, 0o777, "/usr"),
        ("root", LINK, 0o777, "/"),
        ("a/root", LINK, 0o777, "/"),
        ("a/up", LINK, 0o777, "../top"),
    ];
    assert_eq!(
        tree(&[links]).unwrap(),
        [
            "a/",
            "a/root -> ..",
            "a/up -> ../top",
            "bin/",
            "bin/sh -> ../usr/bin/busybox",
            "root -> .",
            "top -> usr",
        ]
    );
}

#[test]
fn nothing_is_written_outside() {
    let link: &[Entry<'_>] = &[("l", LINK, 0o777, "a"), ("a/", DIR, 0o755, "")];
    for (entry, why) in [
        (("l/x", FILE, 0o644, ""), "leads through a link"),
        (("../x", FILE, 0o644, ""), "leads out of the archive"),
        (("/x", FILE, 0o644, ""), "leads out of the archive"),
        (("x", LINK, 0o777, "../../x"), "a link that leads out"),
        (("x", LINK, 0o777, "/../../x"), "a link that leads out"),
        (("x", EntryType::Char, 0o644, ""), "devices"),
        (("a/.wh...", FILE, 0o644, ""), "takes away nothing"),
        ((".wh.", FILE, 0o644, ""), "takes away nothing"),
        (("x", EntryType::Link, 0o644, "../y"), "a link to no file"),
    ] {
        let said = tree(&[link, &[entry]]).unwrap_err();
        assert!(said.contains(why), "{entry:?}: {said}");
    }
}

#[test]
fn a_file_with_a_name_is_a_program() {
    let (directory, root) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let path = directory.path().join("blob");
    fs::write(&path, "#!/bin/sh\n").unwrap();
    let of = |name: &str| Fetched { path: path.clone(), name: Some(name.into()) };
    unpacked(&[of("bin/run"), of("./other"), of("other")], root.path(), 1 << 20).unwrap();
    for name in ["bin/run", "other"] {
        let found = fs::metadata(root.path().join(name)).unwrap();
        assert_eq!((found.len(), found.permissions().mode() & 0o7777), (10, 0o755));
    }
    for name in ["", ".", "../x", "/x"] {
        assert!(unpacked(&[of(name)], root.path(), 1 << 20).is_err(), "{name}");
    }
}

#[test]
fn layers_are_bounded_together() {
    let (directory, root) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let of = |name: &str, content: &[u8]| {
        let path = directory.path().join(name);
        fs::write(&path, content).unwrap();
        Fetched { path, name: Some(name.into()) }
    };
    let layers = [of("a", &[0; 600]), of("b", &[0; 600])];
    assert_eq!(unpacked(&layers, root.path(), 1000).unwrap_err(), "more than 1000 bytes unpacked");
    let zstd = Fetched { name: None, ..of("c", &[0x28, 0xb5, 0x2f, 0xfd, 0]) };
    let said = unpacked(&[zstd], root.path(), 1000).unwrap_err();
    assert!(said.contains("zstd"), "{said}");
}

/// Again and again in one layer, they would cost the square of what it has.
#[test]
fn a_mark_is_seen_to_once_in_a_layer() {
    let root = tempfile::tempdir().unwrap();
    let bounds = Bounds { max: 1 << 20, has_room: &|_| Ok(()) };
    for mark in ["d/.wh..wh..opq", "d/.wh.x"].map(Path::new) {
        let mut unpacking = Unpacking::new(root.path(), bounds);
        unpacking.begin_layer();
        unpacking.mark(mark).unwrap();
        // Not on the disk: whoever looks for it again fails.
        unpacking.others.insert("d/x".into());
        unpacking.mark(mark).unwrap();
        unpacking.begin_layer();
        assert!(unpacking.mark(mark).is_err(), "another layer's is another one");
        unpacking.begin_layer();
        unpacking.names = 0;
        assert!(matches!(unpacking.mark(mark), Err(UnpackError::Names)));
    }
}
