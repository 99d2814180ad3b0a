//! `rollout undo`: back to a former revision.

use everynode_proto::v1::{Revision, UndoRequest};

use super::super::describe::template_text;
use super::super::effect;
use super::{numbered, revisions, template};
use crate::args::{DryRun, UndoArgs};
use crate::connect::Client;
use crate::context::Context;
use crate::error::Error;
use crate::out::Out;
use crate::table::align_tabs;
use crate::targets::daemon_sets;

/// Goes back with each set that is named.
pub(super) async fn run(args: &UndoArgs, context: &Context, out: &mut Out) -> Result<(), Error> {
    if args.to_revision < 0 {
        return Err(Error::Failed(format!(
            "unable to find specified revision {} in history",
            args.to_revision
        )));
    }
    let names = daemon_sets(&args.what)?;
    let (client, namespace) = (context.connect().await?, context.namespace()?);
    for name in names {
        match args.dry_run.dry_run {
            DryRun::Client => foretell(&client, &namespace, &name, args, out).await?,
            _ => undo(&client, &namespace, &name, args, out).await?,
        }
    }
    Ok(())
}

async fn undo(
    client: &Client,
    namespace: &str,
    name: &str,
    args: &UndoArgs,
    out: &mut Out,
) -> Result<(), Error> {
    let number = args.to_revision;
    let request = UndoRequest {
        namespace: namespace.into(),
        name: name.into(),
        to_revision: number,
        dry_run: args.dry_run.dry_run == DryRun::Server,
        allow_removal: client.allows_removal(),
    };
    let answer = client.answer(client.daemon_sets().undo(client.request(request))).await;
    let response = match answer {
        // Said as kubectl says it, which looks for the revision itself.
        Err(Error::Refused(refusal)) if refusal.reason == "RevisionNotFound" => {
            return Err(Error::Failed(refusal.message));
        }
        answer => answer?,
    };
    for warning in &response.warnings {
        out.note(format!("Warning: {warning}"));
    }
    let status = response.daemon_set.as_ref().and_then(|set| set.status.as_ref());
    let conditions = status.map(|status| status.conditions.as_slice()).unwrap_or_default();
    if let Some(pinned) = conditions.iter().find(|condition| condition.r#type == "Pinned") {
        out.note(format!("Warning: daemonset.apps/{name} has {}", pinned.message));
    }
    let mark = args.dry_run.dry_run.mark();
    out.line(match response.changed {
        true => format!(
            "daemonset.apps/{name} rolled back{}{mark}",
            effect::words(response.effect.as_ref())
        ),
        false => format!(
            "daemonset.apps/{name} skipped rollback (current template already matches revision \
             {number}){mark}"
        ),
    })
}

/// `--dry-run=client`: the template that it would be.
async fn foretell(
    client: &Client,
    namespace: &str,
    name: &str,
    args: &UndoArgs,
    out: &mut Out,
) -> Result<(), Error> {
    let all = revisions(client, namespace, name).await?;
    let found = target(&all, args.to_revision)?;
    let text = align_tabs(&template_text(&template(found)?));
    out.text(&format!("daemonset.apps/{name} will roll back to {text} (dry run)\n"))
}

fn target(revisions: &[Revision], number: i64) -> Result<&Revision, Error> {
    match number {
        0 => revisions
            .iter()
            .rev()
            .nth(1)
            .ok_or_else(|| Error::Failed("no last revision to roll back to".into())),
        number => numbered(revisions, number),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn without_a_number_it_is_the_one_before() {
        let all: Vec<Revision> =
            [1, 2, 5].map(|number| Revision { number, ..Revision::default() }).into();
        assert_eq!(target(&all, 0).unwrap().number, 2);
        assert_eq!(target(&all, 1).unwrap().number, 1);
        let message = |outcome: Result<&Revision, Error>| outcome.unwrap_err().to_string();
        assert_eq!(
            message(target(&all, 9)),
            "error: unable to find specified revision 9 in history"
        );
        assert_eq!(message(target(&all[..1], 0)), "error: no last revision to roll back to");
    }
}
