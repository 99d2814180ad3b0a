//! `edit`: an object in an editor, and what was changed there onto the object as it is by then.
//!
//! ```text
//! read ── editor ──┬─ nothing, or emptied ──> cancelled
//!          ^       ├─ not YAML, or refused ──┐
//!          │       │                         │ the same text again ──> kept in a file, 1
//!          └───────┼─ with the reason above ─┘
//!                  └─ taken ──> edited
//! ```

use std::fs;
use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::PathBuf;
use std::process::Command;

use everynode_manifest::{PatchKind, patch, read, three_way};
use serde_json::Value;

use super::change::{Named, by_name, change};
use super::effect;
use super::printed::yaml;
use crate::args::EditArgs;
use crate::connect::Client;
use crate::context::Context;
use crate::error::Error;
use crate::kinds::full_name;
use crate::out::Out;
use crate::placed;

const HEAD: &str = "\
# Please edit the object below. Lines beginning with a '#' will be ignored,
# and an empty file will abort the edit. If an error occurs while saving this file will be
# reopened with the relevant failures.
#
";

/// Edits objects, one after the other.
pub(crate) async fn run(args: &EditArgs, context: &Context, out: &mut Out) -> Result<(), Error> {
    let targets = if args.filename.is_empty() {
        by_name(&args.what, context)?
    } else {
        placed::named(&args.filename, args.recursive, context, out)?
    };
    let client = context.connect().await?;
    for named in targets {
        edit(&named, &client, out).await?;
    }
    Ok(())
}

async fn edit(named: &Named, client: &Client, out: &mut Out) -> Result<(), Error> {
    let before = named.kind.read(client, &named.namespace, &named.name).await?;
    let original = yaml(&before)?;
    let mut text = original.clone();
    let mut reason = String::new();
    loop {
        let file = Scratch::new(&format!("{HEAD}{}{text}", commented(&reason)))?;
        launch(&file)?;
        let edited = uncommented(&file.read()?);
        if edited.trim().is_empty() {
            out.note("Edit cancelled, saved file was empty.");
            return Ok(());
        }
        if edited == uncommented(&original) {
            out.note("Edit cancelled, no changes made.");
            return Ok(());
        }
        if !reason.is_empty() && edited == uncommented(&text) {
            let kept = file.keep();
            out.note(format!("A copy of your changes has been stored to {:?}", kept.display()));
            return Err(Error::Failed("Edit cancelled, no valid changes were saved.".into()));
        }
        match save(named, &before, &edited, client, out).await {
            Ok(()) => return Ok(()),
            Err(error @ (Error::Refused(_) | Error::Manifest(_) | Error::Usage(_))) => {
                out.note(&error);
                reason = error.to_string();
                text = edited;
            }
            Err(error) => {
                let kept = file.keep();
                out.note(format!("A copy of your changes has been stored to {:?}", kept.display()));
                return Err(error);
            }
        }
    }
}

/// Puts what was changed between `before` and the edited text onto the object.
async fn save(
    named: &Named,
    before: &Value,
    edited: &str,
    client: &Client,
    out: &mut Out,
) -> Result<(), Error> {
    let documents = read("the edited object", edited.as_bytes());
    let mut documents = documents.map_err(|errors| Error::Manifest(errors.to_string()))?;
    let (Some(document), true) = (documents.pop(), documents.is_empty()) else {
        return Err(Error::Usage("the file must hold one object".into()));
    };
    let edited = document.value;
    // What was not changed in the editor is left as it is by now.
    let sent = three_way(before, before, &edited);
    let written = change(named, client, false, |live| {
        patch(PatchKind::Strategic, live, &sent)
            .map_err(|error| Error::Usage(format!("the changes: {error}")))
    })
    .await?;
    for warning in &written.warnings {
        out.note(format!("Warning: {warning}"));
    }
    let done = if written.changed { "edited" } else { "edited (no change)" };
    let effect = effect::words(written.effect.as_ref());
    out.line(format!("{} {done}{effect}", full_name(&written.object)))
}

/// The editor that the user prefers, on the file.
fn launch(file: &Scratch) -> Result<(), Error> {
    let said = |name: &str| std::env::var(name).ok().filter(|value| !value.trim().is_empty());
    let editor = said("KUBE_EDITOR").or_else(|| said("EDITOR")).unwrap_or_else(|| "vi".into());
    // By the shell, as an editor may be said with flags and quotes.
    let ran = Command::new("/bin/sh")
        .args(["-c", &format!("{editor} \"$1\""), "sh"])
        .arg(&file.path)
        .status()
        .map_err(|error| {
            Error::Failed(format!("unable to launch the editor {editor:?}: {error}"))
        })?;
    if ran.success() {
        return Ok(());
    }
    Err(Error::Failed(format!(
        "there was a problem with the editor {editor:?} ({ran}); KUBE_EDITOR or EDITOR names another"
    )))
}

fn commented(reason: &str) -> String {
    if reason.is_empty() {
        return String::new();
    }
    let lines: String = reason.lines().map(|line| format!("# {line}\n")).collect();
    format!("{lines}#\n")
}

fn uncommented(text: &str) -> String {
    let lines = text.lines().filter(|line| !line.starts_with('#'));
    lines.map(|line| format!("{line}\n")).collect()
}

/// A file of the user's alone; removed unless it is kept.
struct Scratch {
    path: PathBuf,
    kept: bool,
}

impl Scratch {
    fn new(text: &str) -> Result<Self, Error> {
        let name = format!("everynode-edit-{}.yaml", uuid::Uuid::new_v4());
        let path = std::env::temp_dir().join(name);
        let opened = fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path);
        let scratch = Self { path, kept: false };
        let written = opened.and_then(|mut file| file.write_all(text.as_bytes()));
        written.map_err(|source| scratch.failed(source))?;
        Ok(scratch)
    }

    fn read(&self) -> Result<String, Error> {
        fs::read_to_string(&self.path).map_err(|source| self.failed(source))
    }

    fn keep(mut self) -> PathBuf {
        self.kept = true;
        self.path.clone()
    }

    fn failed(&self, source: std::io::Error) -> Error {
        Error::File { path: self.path.display().to_string(), source }
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        if !self.kept {
            // What can't be removed is for whoever clears the directory of temporary files.
            let _ = fs::remove_file(&self.path);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn comments_come_and_go() {
        let text = format!("{HEAD}{}a: 1\n  # not at the beginning\n", commented("one\ntwo"));
        assert!(text.contains("#\n# one\n# two\n#\na: 1\n"), "{text}");
        assert_eq!(uncommented(&text), "a: 1\n  # not at the beginning\n");
        assert_eq!(commented(""), "");
    }
}
