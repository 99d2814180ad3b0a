//! `rollout history`.

use everynode_proto::v1::{Revision, RevisionContent};

use super::super::describe::template_text;
use super::super::printed::{json_text, list_of, yaml};
use super::{numbered, revisions, template};
use crate::args::{HistoryArgs, ObjectOutput};
use crate::context::Context;
use crate::error::Error;
use crate::kinds::{ControllerRevisions, Kind as _, name_of};
use crate::out::Out;
use crate::table::{Table, align_tabs};
use crate::targets::one_daemon_set;

/// Shows the revisions that are kept, or one of them.
pub(super) async fn run(args: &HistoryArgs, context: &Context, out: &mut Out) -> Result<(), Error> {
    let name = one_daemon_set(&args.what)?;
    let client = context.connect().await?;
    let all = revisions(&client, &context.namespace()?, &name).await?;
    let shown = match args.revision {
        0 => all.as_slice(),
        number => std::slice::from_ref(numbered(&all, number)?),
    };
    match (args.output, args.revision) {
        (Some(output), number) => print_objects(shown, number != 0, output, out),
        (None, 0) => print_history(&name, shown, out),
        (None, number) => {
            out.line(format!("daemonset.apps/{name} with revision #{number}"))?;
            let text: String = shown
                .iter()
                .map(template)
                .map(|template| Ok(template_text(&template?)))
                .collect::<Result<_, Error>>()?;
            let read: String = shown.iter().map(read_text).collect();
            out.text(&align_tabs(&(text + &read)))
        }
    }
}

/// What a revision has of ConfigMaps and Secrets, each with a hash of what is read of it.
fn read_text(revision: &Revision) -> String {
    let line = |content: &RevisionContent| match content.hash.as_str() {
        "" => format!("  {} {}:\t<not there>\n", content.kind, content.name),
        hash => format!("  {} {}:\t{hash}\n", content.kind, content.name),
    };
    let lines: String = revision.content.iter().map(line).collect();
    if lines.is_empty() { lines } else { format!("Reads:\n{lines}") }
}

fn print_objects(
    revisions: &[Revision],
    one: bool,
    output: ObjectOutput,
    out: &mut Out,
) -> Result<(), Error> {
    if output == ObjectOutput::Name {
        let singular = ControllerRevisions::NAMES.singular;
        let name =
            |revision: &Revision| format!("{singular}/{}", name_of(revision.metadata.as_ref()));
        return revisions.iter().try_for_each(|revision| out.line(name(revision)));
    }
    let mut objects =
        revisions.iter().map(ControllerRevisions::manifest).collect::<Result<Vec<_>, _>>()?;
    let object = if one { objects.remove(0) } else { list_of(objects) };
    out.text(&match output {
        ObjectOutput::Json => json_text(&object),
        _ => yaml(&object)?,
    })
}

fn print_history(name: &str, revisions: &[Revision], out: &mut Out) -> Result<(), Error> {
    let mut rows = vec![vec!["REVISION".to_owned(), "CHANGE-CAUSE".into()]];
    rows.extend(revisions.iter().map(|revision| {
        let cause =
            if revision.change_cause.is_empty() { "<none>" } else { &revision.change_cause };
        vec![revision.number.to_string(), cause.to_owned()]
    }));
    out.line(format!("daemonset.apps/{name} "))?;
    out.text(&Table::default().lay_out(&rows))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::out::testing::captured;

    #[test]
    fn history_is_kubectls() {
        let revision = |number, cause: &str| Revision {
            number,
            change_cause: cause.into(),
            ..Revision::default()
        };
        let (mut streams, out, _) = captured();
        print_history("d", &[revision(1, ""), revision(2, "more")], &mut streams).unwrap();
        assert_eq!(
            out.text(),
            "daemonset.apps/d \nREVISION   CHANGE-CAUSE\n1          <none>\n2          more\n"
        );
    }
}
