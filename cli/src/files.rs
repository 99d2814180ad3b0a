//! Manifests: from `-f` to documents that may be sent, or every reason why not, with its place.
//!
//! All files are read and checked before anything is sent, so that a slip in the last document
//! does not leave the first half done.

use std::fs;
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};

use everynode_manifest::{
    Document, ErrorKind, FieldError, FieldPath, MAX_MANIFEST_BYTES, Rejected, Warning, admit, read,
};

use crate::args::FileArgs;
use crate::error::{Error, Refusal};
use crate::out::Out;

/// How deep directories are followed: a bound for links that lead in circles.
const MAX_DEPTH: usize = 16;

/// A document that is a valid DaemonSet, as far as can be told without the coordinator.
#[derive(Debug)]
pub(crate) struct Manifest {
    /// As it was written.
    pub(crate) document: Document,
    /// What will not work as its writer may think.
    pub(crate) warnings: Vec<Warning>,
}

/// Reads the files and checks that every document is a DaemonSet; other kinds are passed over
/// with a note each.
pub(crate) fn daemon_sets(files: &FileArgs, out: &mut Out) -> Result<Vec<Manifest>, Error> {
    let mut manifests = Vec::new();
    let mut skipped = 0;
    let mut errors = Vec::new();
    for documents in documents(files)? {
        let alone = documents.len() == 1;
        for document in documents {
            let admitted = admit(&document.value);
            match if alone { admitted.map_err(Rejected::when_alone) } else { admitted } {
                Ok(admitted) => {
                    manifests.push(Manifest { document, warnings: admitted.warnings });
                }
                Err(other @ Rejected::OtherKind { .. }) => {
                    skipped += 1;
                    out.note(document.explain(&other));
                }
                Err(rejected) => errors.push(document.explain(&rejected)),
            }
        }
    }
    if !errors.is_empty() {
        return Err(Error::Manifest(errors.join("\n")));
    }
    if manifests.is_empty() && skipped > 0 {
        return Err(Error::Usage("there is no DaemonSet among them".into()));
    }
    Ok(manifests)
}

/// Reads the files and finds the DaemonSets that they name, however wrong the rest of them may be:
/// what is to be deleted need not be valid.
pub(crate) fn named_daemon_sets(files: &FileArgs, out: &mut Out) -> Result<Vec<Document>, Error> {
    let mut named = Vec::new();
    for document in documents(files)?.into_iter().flatten() {
        if document.kind == "DaemonSet" && !document.name.is_empty() {
            named.push(document);
        } else {
            let (kind, name) = (&document.kind, &document.name);
            out.note(format!("{kind}/{name} skipped: Everynode runs DaemonSets only"));
        }
    }
    if named.is_empty() {
        return Err(Error::Usage("no DaemonSet is named in them".into()));
    }
    Ok(named)
}

/// What a coordinator's refusal means for the file: each field with its place and its line.
pub(crate) fn explain(document: &Document, refusal: &Refusal) -> Option<String> {
    let lines: Vec<String> = refusal
        .fields
        .iter()
        .map(|(field, description)| explain_field(document, field, description))
        .collect();
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
fn documents(files: &FileArgs) -> Result<Vec<Vec<Document>>, Error> {
    let mut found = Vec::new();
    let mut errors = Vec::new();
    for (name, bytes) in contents(files)? {
        match read(&name, &bytes) {
            Ok(documents) => found.push(documents),
            Err(error) => errors.push(error.to_string()),
        }
    }
    if !errors.is_empty() {
        return Err(Error::Manifest(errors.join("\n")));
    }
    if found.iter().all(Vec::is_empty) {
        return Err(Error::Usage("no objects in the files given".into()));
    }
    Ok(found)
}

/// The name and the bytes of each file.
fn contents(files: &FileArgs) -> Result<Vec<(String, Vec<u8>)>, Error> {
    let mut contents = Vec::new();
    for path in &files.filename {
        if path == Path::new("-") {
            let bytes =
                bounded(io::stdin().lock()).map_err(|source| file("standard input", source))?;
            contents.push(("<stdin>".into(), bytes));
        } else if path.is_dir() {
            for path in in_directory(path, files.recursive, 0)? {
                contents.push(content(&path)?);
            }
        } else {
            contents.push(content(path)?);
        }
    }
    Ok(contents)
}

fn content(path: &Path) -> Result<(String, Vec<u8>), Error> {
    let name = path.display().to_string();
    if name.starts_with("http://") || name.starts_with("https://") {
        return Err(Error::Usage(format!(
            "{name}: addresses are not fetched; use: curl -fsSL {name} | everynode … -f -"
        )));
    }
    let bytes = fs::File::open(path).and_then(bounded).map_err(|source| file(&name, source))?;
    Ok((name, bytes))
}

/// No more than the reader takes, and one byte, so that it sees that there is more.
fn bounded(from: impl io::Read) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    from.take(MAX_MANIFEST_BYTES as u64 + 1).read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// The manifests in a directory, by name.
fn in_directory(path: &Path, recursive: bool, depth: usize) -> Result<Vec<PathBuf>, Error> {
    let failed = |source| file(&path.display().to_string(), source);
    let mut entries: Vec<PathBuf> = fs::read_dir(path)
        .and_then(|entries| entries.map(|entry| entry.map(|entry| entry.path())).collect())
        .map_err(failed)?;
    entries.sort();
    let mut found = Vec::new();
    for entry in entries {
        if entry.is_dir() {
            if recursive && depth < MAX_DEPTH {
                found.extend(in_directory(&entry, recursive, depth + 1)?);
            }
        } else if entry
            .extension()
            .is_some_and(|end| end == "yaml" || end == "yml" || end == "json")
        {
            found.push(entry);
        }
    }
    Ok(found)
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
        let error = daemon_sets(&files.args(&["d.yaml"]), &mut out).unwrap_err().to_string();
        let first = "d.yaml:12:9: spec.template.spec.containers[0].imagee: Unknown field: did you \
                     mean \"image\"?\n  12 |         imagee: nginx\n     |         ^";
        assert!(files.bare(&error).contains(first), "{error}");
    }

    #[test]
    fn a_replica_set_that_was_meant_as_a_daemon_set() {
        let text = GOOD.replace("kind: DaemonSet", "kind: ReplicaSet");
        let files = Files::new("kind", &[("d.yaml", &text)]);
        let (mut out, _, _) = captured();
        let error = daemon_sets(&files.args(&["d.yaml"]), &mut out).unwrap_err().to_string();
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
        let found = daemon_sets(&files.args(&[""]), &mut out).unwrap();
        assert_eq!(found.len(), 1);
        assert_eq!(notes.text().lines().count(), 2);
        assert!(notes.text().starts_with("Service/s skipped"));
        assert!(daemon_sets(&files.args(&["b.yml"]), &mut out).is_err());
    }

    #[test]
    fn a_slip_in_the_last_document_is_found_first() {
        let second = GOOD.replace("name: a\n", "name: A_\n");
        let files = Files::new("last", &[("a.yaml", GOOD), ("b.yaml", &second)]);
        let (mut out, _, _) = captured();
        let error = daemon_sets(&files.args(&["a.yaml", "b.yaml"]), &mut out).unwrap_err();
        assert!(files.bare(&error.to_string()).starts_with("b.yaml:4:"), "{error}");
    }

    #[test]
    fn a_refusal_is_mapped_back_to_the_file() {
        let files = Files::new("back", &[("a.yaml", GOOD)]);
        let (mut out, _, _) = captured();
        let found = daemon_sets(&files.args(&["a.yaml"]), &mut out).unwrap();
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
    fn what_is_to_be_deleted_need_not_be_valid() {
        let files = Files::new("delete", &[("a.yaml", "kind: DaemonSet\nmetadata: {name: x}\n")]);
        let (mut out, _, _) = captured();
        let named = named_daemon_sets(&files.args(&["a.yaml"]), &mut out).unwrap();
        assert_eq!(named[0].name, "x");
    }
}
