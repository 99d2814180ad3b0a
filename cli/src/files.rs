//! Manifests: from `-f` to documents that may be sent, or every reason why not, with its place.
//!
//! All files are read and checked before anything is sent, so that a slip in the last document
//! does not leave the first half done.

use std::fs;
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};

use everynode_manifest::{
    Document, ErrorKind, FieldError, FieldPath, MAX_MANIFEST_BYTES, Rejected, Warning, admit,
    admit_object, read,
};
use everynode_model::ObjectKind;

use crate::args::FileArgs;
use crate::error::{Error, Refusal};
use crate::out::Out;

/// How deep directories are followed: trees of manifests have a handful of levels.
const MAX_DEPTH: usize = 16;

/// The most files of one command: ten for each of the largest fleets' DaemonSets.
const MAX_FILES: usize = 10_000;

/// The most text of one command; all of it is checked before anything is sent, and kept till then.
const MAX_TOTAL_BYTES: usize = 64 * 1024 * 1024;

/// How many objects' or files' faults are shown: more than anyone mends in one go.
const MAX_SHOWN: usize = 100;

/// A document that is a valid object, as far as can be told without the coordinator.
#[derive(Debug)]
pub(crate) struct Manifest {
    /// As it was written.
    pub(crate) document: Document,
    /// What will not work as its writer may think.
    pub(crate) warnings: Vec<Warning>,
}

/// Reads the files and checks every DaemonSet, ConfigMap, Secret and Namespace in them; other kinds are
/// passed over with a note each. `verb` is what is to be done with them.
pub(crate) fn manifests(
    files: &FileArgs,
    verb: &str,
    out: &mut Out,
) -> Result<Vec<Manifest>, Error> {
    let mut manifests = Vec::new();
    let mut skipped = 0;
    let mut errors = Vec::new();
    for documents in documents(files, verb)? {
        let alone = documents.len() == 1;
        for document in documents {
            let warnings = checked(&document);
            match if alone { warnings.map_err(Rejected::when_alone) } else { warnings } {
                Ok(warnings) => manifests.push(Manifest { document, warnings }),
                Err(other @ Rejected::OtherKind { .. }) => {
                    skipped += 1;
                    out.note(document.explain(&other));
                }
                Err(rejected) => errors.push(document.explain(&rejected)),
            }
        }
    }
    if !errors.is_empty() {
        return Err(several(&errors));
    }
    if manifests.is_empty() && skipped > 0 {
        return Err(Error::Usage(
            "there is no DaemonSet, ConfigMap, Secret or Namespace among them".into(),
        ));
    }
    Ok(manifests)
}

/// What there is to say of a document that may be sent.
fn checked(document: &Document) -> Result<Vec<Warning>, Rejected> {
    match ObjectKind::parse(&document.kind) {
        Some(_) => admit_object(&document.value).map(|admitted| admitted.warnings),
        None => admit(&document.value).map(|admitted| admitted.warnings),
    }
}

/// Reads the files and finds the objects that they name, however wrong the rest of them may be:
/// what is to be deleted need not be valid.
pub(crate) fn named_objects(files: &FileArgs, out: &mut Out) -> Result<Vec<Document>, Error> {
    let mut named = Vec::new();
    for document in documents(files, "delete")?.into_iter().flatten() {
        let ours = document.kind == "DaemonSet" || ObjectKind::parse(&document.kind).is_some();
        if ours && !document.name.is_empty() {
            named.push(document);
        } else {
            let (kind, name) = (&document.kind, &document.name);
            out.note(format!("{kind}/{name} skipped: Everynode has none of that kind"));
        }
    }
    if named.is_empty() {
        return Err(Error::Usage("no object of Everynode's is named in them".into()));
    }
    Ok(named)
}

/// What a coordinator's refusal means for the file: each field with its place and its line.
pub(crate) fn explain(document: &Document, refusal: &Refusal) -> Option<String> {
    let mut lines: Vec<String> = refusal
        .fields
        .iter()
        .map(|(field, description)| explain_field(document, field, description))
        .collect();
    if lines.len() > 1 {
        // As for what is found here: several faults are told under the object's name.
        lines.insert(0, refusal.message.lines().next().unwrap_or_default().trim_end().to_owned());
    }
    (!lines.is_empty()).then(|| lines.join("\n"))
}

fn explain_field(document: &Document, field: &str, description: &str) -> String {
    let said = match description.strip_prefix(field) {
        Some(rest) if rest.starts_with(':') => description.to_owned(),
        _ if field.is_empty() => description.to_owned(),
        _ => format!("{field}: {description}"),
    };
    let path: FieldPath = field.parse().unwrap_or_default();
    // Of the error only the place and the source line are needed; the words are the coordinator's.
    let (kind, detail) = (ErrorKind::Invalid, String::new());
    let error = FieldError { path, at: None, kind, value: None, detail };
    let place = document.locate(&error.path);
    let shown = document.explain_error(&error);
    let excerpt = shown.split_once('\n').map_or(String::new(), |(_, lines)| format!("\n{lines}"));
    let file = document.file();
    match place {
        Some(place) => format!("{file}:{}:{}: {said}{excerpt}", place.line, place.column),
        None => format!("{file}: {said}"),
    }
}

/// The documents of each file.
fn documents(files: &FileArgs, verb: &str) -> Result<Vec<Vec<Document>>, Error> {
    let mut found = Vec::new();
    let mut errors = Vec::new();
    let mut total = 0;
    for path in paths(files)? {
        let (name, bytes) = content(&path)?;
        total += bytes.len();
        if total > MAX_TOTAL_BYTES {
            let most = MAX_TOTAL_BYTES / (1024 * 1024);
            let rule =
                format!("more than the {most} MiB that one command may read; do it in parts");
            return Err(Error::Usage(rule));
        }
        match read(&name, &bytes) {
            Ok(documents) => found.push(documents),
            Err(error) => errors.push(error.to_string()),
        }
    }
    if !errors.is_empty() {
        return Err(several(&errors));
    }
    if found.iter().all(Vec::is_empty) {
        return Err(Error::Usage(format!("no objects passed to {verb}")));
    }
    Ok(found)
}

/// Faults of several objects or files; of very many, the first.
fn several(errors: &[String]) -> Error {
    let mut text = errors[..errors.len().min(MAX_SHOWN)].join("\n");
    if let more @ 1.. = errors.len().saturating_sub(MAX_SHOWN) {
        text += &format!("\nand {more} more with faults");
    }
    Error::Manifest(text)
}

/// The files that are meant, in the order given.
fn paths(files: &FileArgs) -> Result<Vec<PathBuf>, Error> {
    let mut paths = Vec::new();
    for path in &files.filename {
        if path.is_dir() {
            let before = paths.len();
            in_directory(path, files.recursive, 0, &mut paths)?;
            if paths.len() == before {
                return Err(Error::Usage(format!(
                    "error reading [{}]: recognized file extensions are [.json .yaml .yml]",
                    path.display()
                )));
            }
        } else {
            paths.push(path.clone());
        }
    }
    Ok(paths)
}

fn content(path: &Path) -> Result<(String, Vec<u8>), Error> {
    if path == Path::new("-") {
        let bytes =
            manifest_of(io::stdin().lock()).map_err(|source| file("standard input", source))?;
        return Ok(("<stdin>".into(), bytes));
    }
    let name = path.display().to_string();
    if name.starts_with("http://") || name.starts_with("https://") {
        return Err(Error::Usage(format!(
            "{name}: addresses are not fetched; use: curl -fsSL {name} | everynode … -f -"
        )));
    }
    let bytes = fs::File::open(path).and_then(manifest_of).map_err(|source| file(&name, source))?;
    Ok((name, bytes))
}

fn manifest_of(from: impl io::Read) -> io::Result<Vec<u8>> {
    bounded(from, MAX_MANIFEST_BYTES)
}

/// No more than `most` bytes, and one, so that whoever takes them sees that there is more.
pub(crate) fn bounded(from: impl io::Read, most: usize) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    from.take(most as u64 + 1).read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// Adds the manifests in a directory, by name. Links to directories are not followed, as they may
/// lead in circles; kubectl does not, either.
fn in_directory(
    path: &Path,
    recursive: bool,
    depth: usize,
    found: &mut Vec<PathBuf>,
) -> Result<(), Error> {
    let failed = |source| file(&path.display().to_string(), source);
    let mut entries: Vec<fs::DirEntry> =
        fs::read_dir(path).and_then(Iterator::collect).map_err(failed)?;
    entries.sort_by_key(fs::DirEntry::path);
    for entry in entries {
        let path = entry.path();
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            if recursive && depth < MAX_DEPTH {
                in_directory(&path, recursive, depth + 1, found)?;
            }
        } else if path.extension().is_some_and(|end| end == "yaml" || end == "yml" || end == "json")
            && !path.is_dir()
        {
            if found.len() == MAX_FILES {
                let rule = format!("more than the {MAX_FILES} files that one command may read");
                return Err(Error::Usage(rule));
            }
            found.push(path);
        }
    }
    Ok(())
}

fn file(path: &str, source: io::Error) -> Error {
    Error::File { path: path.into(), source }
}

#[cfg(test)]
mod tests {
    use tonic::Code;

    use super::*;
    use crate::out::testing::captured;

    const GOOD: &str = "apiVersion: apps/v1\nkind: DaemonSet\nmetadata:\n  name: a\nspec:\n  \
        selector: {matchLabels: {app: a}}\n  template:\n    metadata: {labels: {app: a}}\n    \
        spec:\n      containers:\n      - name: main\n        image: nginx\n";

    /// A directory of files, gone with the test.
    struct Files(PathBuf);

    impl Files {
        fn new(test: &str, files: &[(&str, &str)]) -> Self {
            let path =
                std::env::temp_dir().join(format!("everynode-{test}-{}", std::process::id()));
            fs::create_dir_all(&path).unwrap();
            for (name, text) in files {
                fs::write(path.join(name), text).unwrap();
            }
            Self(path)
        }

        fn args(&self, names: &[&str]) -> FileArgs {
            let filename = names.iter().map(|name| self.0.join(name)).collect();
            FileArgs { filename, recursive: false }
        }

        /// The text without the directory's name.
        fn bare(&self, text: &str) -> String {
            text.replace(&format!("{}/", self.0.display()), "")
        }
    }

    impl Drop for Files {
        fn drop(&mut self) {
            let _ = fs::remove_dir_all(&self.0);
        }
    }

    #[test]
    fn an_error_is_shown_with_its_place_and_its_line() {
        let text = GOOD.replace("image:", "imagee:");
        let files = Files::new("place", &[("d.yaml", &text)]);
        let (mut out, _, _) = captured();
        let error =
            manifests(&files.args(&["d.yaml"]), "create", &mut out).unwrap_err().to_string();
        let first = "d.yaml:12:9: spec.template.spec.containers[0].imagee: Unknown field: did you \
                     mean \"image\"?\n  12 |         imagee: nginx\n     |         ^";
        assert!(files.bare(&error).contains(first), "{error}");
    }

    #[test]
    fn a_replica_set_that_was_meant_as_a_daemon_set() {
        let text = GOOD.replace("kind: DaemonSet", "kind: ReplicaSet");
        let files = Files::new("kind", &[("d.yaml", &text)]);
        let (mut out, _, _) = captured();
        let error =
            manifests(&files.args(&["d.yaml"]), "create", &mut out).unwrap_err().to_string();
        let error = files.bare(&error);
        assert!(
            error.starts_with("d.yaml:2:1: kind: Unsupported value: \"ReplicaSet\""),
            "{error}"
        );
        assert!(error.contains("write `kind: DaemonSet` here"), "{error}");
    }

    #[test]
    fn other_kinds_among_daemon_sets_are_passed_over() {
        let service = "apiVersion: v1\nkind: Service\nmetadata: {name: s}\n";
        let both = format!("{service}---\n{GOOD}");
        let files = Files::new("other", &[("a.yaml", &both), ("b.yml", service), ("c.txt", "x")]);
        let (mut out, _, notes) = captured();
        let found = manifests(&files.args(&[""]), "create", &mut out).unwrap();
        assert_eq!(found.len(), 1);
        assert_eq!(notes.text().lines().count(), 2);
        assert!(notes.text().starts_with("Service/s skipped"));
        assert!(manifests(&files.args(&["b.yml"]), "create", &mut out).is_err());
    }

    #[test]
    fn a_slip_in_the_last_document_is_found_first() {
        let second = GOOD.replace("name: a\n", "name: A_\n");
        let files = Files::new("last", &[("a.yaml", GOOD), ("b.yaml", &second)]);
        let (mut out, _, _) = captured();
        let error = manifests(&files.args(&["a.yaml", "b.yaml"]), "create", &mut out).unwrap_err();
        assert!(files.bare(&error.to_string()).starts_with("b.yaml:4:"), "{error}");
    }

    #[test]
    fn a_refusal_is_mapped_back_to_the_file() {
        let files = Files::new("back", &[("a.yaml", GOOD)]);
        let (mut out, _, _) = captured();
        let found = manifests(&files.args(&["a.yaml"]), "create", &mut out).unwrap();
        let field = "spec.template.spec.containers[0].image";
        let refusal = |description: &str| Refusal {
            reason: "Invalid".into(),
            message: String::new(),
            fields: vec![(field.into(), description.into())],
            code: Code::InvalidArgument,
        };
        let expected = format!(
            "a.yaml:12:9: {field}: Required value: x\n  12 |         image: nginx\n     |         ^"
        );
        for description in ["Required value: x".to_owned(), format!("{field}: Required value: x")] {
            let shown = explain(&found[0].document, &refusal(&description)).unwrap();
            assert_eq!(files.bare(&shown), expected);
        }
    }

    #[test]
    fn several_faults_stand_under_the_name_of_their_object() {
        let text = GOOD.replace("image:", "imagee:").replace("name: main", "name: Main");
        let files = Files::new("several", &[("d.yaml", &text)]);
        let (mut out, _, _) = captured();
        let error = manifests(&files.args(&["d.yaml"]), "apply", &mut out).unwrap_err();
        let error = files.bare(&error.to_string());
        let heads: Vec<&str> = error.lines().filter(|line| !line.starts_with(' ')).collect();
        assert_eq!(heads[0], "The DaemonSet \"a\" is invalid:");
        for (line, place) in heads[1..].iter().zip(["d.yaml:12:9:", "d.yaml:12:9:", "d.yaml:11:9:"])
        {
            assert!(line.starts_with(place) || line.starts_with("d.yaml:11:9:"), "{line}");
        }
        assert_eq!(heads.len(), 4, "{error}");
    }

    #[test]
    fn files_that_say_nothing_are_no_objects() {
        let files =
            Files::new("empty", &[("a.yaml", ""), ("b.yaml", "---\n# nothing\n---\nnull\n")]);
        let (mut out, _, _) = captured();
        for names in [&["a.yaml"][..], &["b.yaml"], &[""]] {
            let error = manifests(&files.args(names), "apply", &mut out).unwrap_err();
            assert_eq!(error.to_string(), "error: no objects passed to apply");
        }
    }

    #[test]
    fn a_directory_without_manifests_says_what_it_looked_for() {
        let files = Files::new("none", &[("a.txt", GOOD), ("b", GOOD)]);
        let (mut out, _, _) = captured();
        let error = manifests(&files.args(&[""]), "create", &mut out).unwrap_err().to_string();
        assert!(error.contains("recognized file extensions are [.json .yaml .yml]"), "{error}");
        // By its own name any file is read.
        assert_eq!(manifests(&files.args(&["b"]), "create", &mut out).unwrap().len(), 1);
    }

    #[cfg(unix)]
    #[test]
    fn links_that_lead_in_circles_are_not_followed() {
        let files = Files::new("links", &[("a.yaml", GOOD)]);
        for name in ["b", "c.yaml"] {
            std::os::unix::fs::symlink(&files.0, files.0.join(name)).unwrap();
        }
        let (mut out, _, _) = captured();
        let args = FileArgs { recursive: true, ..files.args(&[""]) };
        assert_eq!(manifests(&args, "create", &mut out).unwrap().len(), 1);
    }

    #[test]
    fn one_bad_file_among_good_ones_sends_none_and_each_fault_is_told() {
        let files = Files::new(
            "bad",
            &[("a.yaml", GOOD), ("b.yaml", "a:\n\t- b\n"), ("c.json", "{\"a\": \"\0\"}")],
        );
        let (mut out, _, _) = captured();
        let error = manifests(&files.args(&[""]), "create", &mut out).unwrap_err();
        let error = files.bare(&error.to_string());
        assert!(error.starts_with("b.yaml:2:1: a tab where"), "{error}");
        assert!(error.contains("\nc.json:1:8: the control character U+0000"), "{error}");
    }

    #[test]
    fn of_very_many_faults_the_first_are_shown() {
        let bad = "kind: DaemonSet\napiVersion: apps/v1\n---\n".repeat(MAX_SHOWN + 20);
        let files = Files::new("many", &[("a.yaml", &bad)]);
        let (mut out, _, _) = captured();
        let error = manifests(&files.args(&["a.yaml"]), "create", &mut out).unwrap_err();
        assert!(error.to_string().ends_with("\nand 20 more with faults"), "{error}");
    }

    #[test]
    fn a_file_without_an_end_is_read_to_its_bound() {
        let args = FileArgs { filename: vec!["/dev/zero".into()], recursive: false };
        let (mut out, _, _) = captured();
        let error = manifests(&args, "create", &mut out).unwrap_err().to_string();
        assert!(error.contains("larger than the 3 MiB (3145728 bytes)"), "{error}");
    }

    #[test]
    fn what_is_to_be_deleted_need_not_be_valid() {
        let files = Files::new("delete", &[("a.yaml", "kind: DaemonSet\nmetadata: {name: x}\n")]);
        let (mut out, _, _) = captured();
        let named = named_objects(&files.args(&["a.yaml"]), &mut out).unwrap();
        assert_eq!(named[0].name, "x");
    }
}
