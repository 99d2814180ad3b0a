use std::io::Seek as _;

use super::*;

/// Path, type, mode, and content or target.
pub(super) type Entry<'a> = (&'a str, EntryType, u32, &'a str);

/// An archive of these, as hostile as it is wanted to be.
pub(super) fn tar_of(entries: &[Entry<'_>]) -> Vec<u8> {
    let mut archive = tar::Builder::new(Vec::new());
    for (path, kind, mode, text) in entries {
        let mut header = tar::Header::new_ustar();
        header.set_entry_type(*kind);
        header.set_mode(*mode);
        // The builder would refuse what a hostile archive says.
        let name = &mut header.as_old_mut().name;
        name[..path.len()].copy_from_slice(path.as_bytes());
        let is_link = matches!(kind, EntryType::Symlink | EntryType::Link);
        if is_link {
            header.as_old_mut().linkname[..text.len()].copy_from_slice(text.as_bytes());
        }
        let content = if is_link { "" } else { text };
        header.set_size(content.len() as u64);
        header.set_cksum();
        archive.append(&header, content.as_bytes()).unwrap();
    }
    archive.into_inner().unwrap()
}

fn unpacked(packing: Packing, bytes: &[u8]) -> (tempfile::TempDir, Result<(), String>) {
    let (directory, mut file) = (tempfile::tempdir().unwrap(), tempfile::tempfile().unwrap());
    file.write_all(bytes).unwrap();
    file.rewind().unwrap();
    let bounds = Bounds { max: 1 << 20, has_room: &|_| Ok(()) };
    let done = unpack(file, packing, directory.path(), bounds);
    (directory, done.map_err(|error| error.to_string()))
}

pub(super) fn gz(bytes: &[u8]) -> Vec<u8> {
    let mut gz = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    gz.write_all(bytes).unwrap();
    gz.finish().unwrap()
}

fn mode(path: &Path) -> u32 {
    path.symlink_metadata().unwrap().permissions().mode() & 0o7777
}

#[test]
fn an_archive_is_unpacked_without_owners_and_special_modes() {
    let bytes = tar_of(&[
        ("./", EntryType::Directory, 0o777, ""),
        ("bin/run", EntryType::Regular, 0o4775, "#!/bin/sh\n"),
        ("etc/conf", EntryType::Regular, 0o600, "a=1"),
        ("bin/again", EntryType::Symlink, 0o777, "../bin/run"),
        ("bin/same", EntryType::Link, 0o777, "bin/run"),
    ]);
    for (packing, packed) in [(Packing::Tar, bytes.clone()), (Packing::TarGz, gz(&bytes))] {
        let (directory, done) = unpacked(packing, &packed);
        assert_eq!(done, Ok(()), "{packing:?}");
        let at = |path: &str| directory.path().join(path);
        assert_eq!(fs::read_to_string(at("bin/again")).unwrap(), "#!/bin/sh\n");
        assert_eq!((mode(&at("bin/run")), mode(&at("bin/same"))), (0o755, 0o755));
        assert_eq!((mode(&at("etc/conf")), mode(&at("etc"))), (0o644, 0o755));
    }
}

#[test]
fn nothing_is_written_outside() {
    let link = ("way", EntryType::Symlink, 0o777, ".");
    let cases: [(&[Entry<'_>], &str); 10] = [
        (&[("../x", EntryType::Regular, 0o644, "x")], "leads out of the archive"),
        (&[("/etc/x", EntryType::Regular, 0o644, "x")], "leads out of the archive"),
        (&[("a/../../x", EntryType::Directory, 0o644, "")], "leads out of the archive"),
        (&[("x", EntryType::Symlink, 0o777, "/etc/passwd")], "is a link that leads out"),
        (&[("a/x", EntryType::Symlink, 0o777, "../../up")], "is a link that leads out"),
        (&[link, ("way/x", EntryType::Regular, 0o644, "x")], "leads through a link or a file"),
        (&[link, ("way", EntryType::Regular, 0o644, "x")], "is there twice"),
        (&[("x", EntryType::Link, 0o777, "/etc/passwd")], "is a link to no file"),
        (&[link, ("x", EntryType::Link, 0o777, "way")], "is a link to no file"),
        (&[("x", EntryType::Char, 0o666, "")], "devices and pipes are not unpacked"),
    ];
    for (entries, why) in cases {
        let (_directory, done) = unpacked(Packing::Tar, &tar_of(entries));
        let said = done.unwrap_err();
        assert!(said.contains(why), "{entries:?}: {said}");
    }
}

#[test]
fn a_damaged_archive_is_an_error() {
    let bytes = tar_of(&[("a", EntryType::Regular, 0o644, "some content")]);
    assert!(unpacked(Packing::TarGz, &bytes).1.is_err());
    assert!(unpacked(Packing::Tar, &bytes[..600]).1.is_err(), "cut off");
    let packed = gz(&bytes);
    assert!(unpacked(Packing::TarGz, &packed[..packed.len() / 2]).1.is_err(), "cut off");
}

#[test]
fn no_more_is_unpacked_than_may_be() {
    let content = "x".repeat(700_000);
    let one = ("a", EntryType::Regular, 0o644, content.as_str());
    assert_eq!(unpacked(Packing::Tar, &tar_of(&[one])).1, Ok(()));
    let bomb = tar_of(&[one, ("b", EntryType::Regular, 0o644, &content)]);
    let why = unpacked(Packing::TarGz, &gz(&bomb)).1.unwrap_err();
    assert_eq!(why, "more than 1048576 bytes unpacked");

    let directory = tempfile::tempdir().unwrap();
    let full = |needed| Err(format!("no room for {needed}"));
    let bounds = Bounds { max: 1 << 20, has_room: &full };
    let mut unpacking = Unpacking::new(directory.path(), bounds);
    let why = unpacking.archive(&tar_of(&[one])[..]).unwrap_err().to_string();
    assert_eq!(why, "no room for 700000");
}

/// They are held in memory, and a small archive can hold many.
#[test]
fn names_are_bounded_together() {
    let file = ("a/b/c", EntryType::Regular, 0o644, "x");
    // Those of two directories and the file: `a`, `a/b`, `a/b/c`.
    for (names, kind) in [(9, file), (4, ("a/b/", EntryType::Directory, 0o755, ""))] {
        for (names, wanted) in [(names, None), (names - 1, Some("bytes of names"))] {
            let directory = tempfile::tempdir().unwrap();
            let bounds = Bounds { max: 1 << 20, has_room: &|_| Ok(()) };
            let mut unpacking = Unpacking { names, ..Unpacking::new(directory.path(), bounds) };
            let done = unpacking.archive(&tar_of(&[kind])[..]).map_err(|error| error.to_string());
            assert_eq!(done.is_err(), wanted.is_some(), "{done:?}");
            assert!(done.err().unwrap_or_default().contains(wanted.unwrap_or_default()));
        }
    }
}

/// Names are read into memory, and a small archive can hold a long one.
#[test]
fn no_name_is_longer_than_memory_may_take() {
    for kind in [EntryType::GNULongName, EntryType::XHeader, EntryType::XGlobalHeader] {
        let long = "x".repeat(1 << 20);
        let bomb = tar_of(&[("l", kind, 0o644, &long), ("a", EntryType::Regular, 0o644, "x")]);
        let why = unpacked(Packing::TarGz, &gz(&bomb)).1.unwrap_err();
        assert!(why.contains("too long"), "{kind:?}: {why}");
    }
}

#[test]
fn a_name_that_is_longer_than_a_header_is_read() {
    let mut archive = tar::Builder::new(Vec::new());
    let mut header = tar::Header::new_gnu();
    header.set_size(1);
    header.set_mode(0o755);
    let name = format!("{}/run", "d".repeat(150));
    archive.append_data(&mut header, &name, &b"x"[..]).unwrap();
    let (directory, done) = unpacked(Packing::Tar, &archive.into_inner().unwrap());
    assert_eq!((done, mode(&directory.path().join(name))), (Ok(()), 0o755));
}
