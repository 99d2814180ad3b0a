//! `get`: objects as rows, or in another [`Form`]; and with `-w` what changes.

mod choose;
mod form;

use std::collections::BTreeSet;

use everynode_proto::v1::{ListRequest, WatchRequest};
use serde_json::{Value, json};

use self::choose::Fields;
use self::form::Form;
use super::printed::list_of;
use super::rows::Look;
use crate::age::unix_now;
use crate::args::GetArgs;
use crate::connect::Client;
use crate::context::Context;
use crate::error::Error;
use crate::jsonpath::JsonPath;
use crate::kinds::{Kind, Listed, Resource, name_of, namespace_of, of_kind};
use crate::out::Out;
use crate::table::Table;
use crate::targets::Targets;
use crate::watch::{Change, Watch};

/// What was asked for.
struct Get<'a> {
    args: &'a GetArgs,
    context: &'a Context,
    /// Empty: all of them.
    namespace: String,
    look: Look,
    form: Form,
    fields: Fields,
    sort: Option<JsonPath>,
}

/// What was found, over all kinds.
#[derive(Default)]
struct Found {
    /// For YAML, JSON and names.
    objects: Vec<Value>,
    names: Vec<String>,
    /// How many tables or rows were printed.
    printed: usize,
    failed: bool,
}

/// Prints the objects.
pub(crate) async fn run(args: &GetArgs, context: &Context, out: &mut Out) -> Result<(), Error> {
    let kinds = by_kind(Targets::parse(&args.what)?);
    if args.selector.is_some() && kinds.iter().any(|(_, names)| !names.is_empty()) {
        return Err(Error::Usage("name cannot be provided when a selector is specified".into()));
    }
    let watches = args.watch || args.watch_only;
    if watches && (kinds.len() != 1 || kinds[0].1.len() > 1) {
        return Err(Error::Usage(
            "you may only specify a single resource type, or one name, to watch".into(),
        ));
    }
    if args.output_watch_events && !watches {
        return Err(Error::Usage(
            "--output-watch-events option can only be used with --watch or --watch-only".into(),
        ));
    }
    let form = Form::of(args.output.as_ref())?;
    let names: Vec<&str> = kinds.iter().map(|(kind, _)| kind.names().kind).collect();
    let fields = Fields::parse(&field_selector(args, &kinds)?, &names)?;
    if !fields.is_empty() && kinds.iter().any(|(_, names)| !names.is_empty()) {
        return Err(Error::Usage(
            "name cannot be provided when a field selector is specified".into(),
        ));
    }
    let sort = args.sort_by.as_deref().map(JsonPath::relaxed).transpose().map_err(Error::Usage)?;
    let client = context.connect().await?.showing_secrets(args.show_secrets);
    let namespaced = kinds.iter().any(|(kind, _)| kind.names().namespaced);
    let namespace =
        if args.all_namespaces || !namespaced { String::new() } else { context.namespace()? };
    let look = Look::of(args, kinds.len() > 1);
    let get = Get { args, context, namespace, look, form, fields, sort };
    let mut found = Found::default();
    for (kind, names) in &kinds {
        of_kind!(kind, K => get.kind::<K>(&client, names, &mut found, out).await?);
    }
    if !watches {
        let one = matches!(kinds.as_slice(), [(_, names)] if names.len() == 1);
        get.finish(&mut found, one, out)?;
    }
    if found.failed { Err(Error::Told) } else { Ok(()) }
}

/// What fields must be: as `--field-selector` says, and `--for` and `--types` in other words.
fn field_selector(args: &GetArgs, kinds: &[(Resource, Vec<String>)]) -> Result<String, Error> {
    let mut parts: Vec<String> =
        args.field_selector.iter().filter(|text| !text.is_empty()).cloned().collect();
    if (args.about.is_some() || args.types.is_some())
        && kinds.iter().any(|(kind, _)| *kind != Resource::Events)
    {
        return Err(Error::Usage("--for and --types are for events".into()));
    }
    if let Some(about) = &args.about {
        let (kind, name) = Targets::one(std::slice::from_ref(about))?;
        parts.push(format!("involvedObject.kind={}", kind.names().kind));
        parts.push(format!("involvedObject.name={name}"));
    }
    // The command line has checked it, but for its case.
    let normal = |types: &String| types.eq_ignore_ascii_case("Normal");
    parts.extend(args.types.iter().map(|types| match normal(types) {
        true => "type=Normal".to_owned(),
        false => "type=Warning".into(),
    }));
    Ok(parts.join(","))
}

/// Each kind once, with the names asked for, in the order of their first mention.
fn by_kind(targets: Targets) -> Vec<(Resource, Vec<String>)> {
    let mut kinds: Vec<(Resource, Vec<String>)> = Vec::new();
    let mut add = |kind: Resource, name: Option<String>| match kinds
        .iter_mut()
        .find(|(known, _)| *known == kind)
    {
        Some((_, names)) => names.extend(name),
        None => kinds.push((kind, name.into_iter().collect())),
    };
    match targets {
        Targets::Kinds(all) => all.into_iter().for_each(|kind| add(kind, None)),
        Targets::Objects(all) => all.into_iter().for_each(|(kind, name)| add(kind, Some(name))),
    }
    kinds
}

impl Get<'_> {
    async fn kind<K: Kind>(
        &self,
        client: &Client,
        names: &[String],
        found: &mut Found,
        out: &mut Out,
    ) -> Result<(), Error> {
        let mut listed = self.fetch::<K>(client, names, found, out).await?;
        let mut table = Table::default();
        if !self.args.watch_only {
            let shown = self.chosen::<K>(&mut listed.items)?;
            match self.form {
                Form::Rows => self.table::<K>(&shown, &mut table, found, out)?,
                _ => {
                    for item in &shown {
                        self.gather::<K>(item, found)?;
                    }
                }
            }
        }
        if self.args.watch || self.args.watch_only {
            self.finish(found, names.len() == 1, out)?;
            self.follow::<K>(client, names, listed, table, out).await?;
        }
        Ok(())
    }

    async fn fetch<K: Kind>(
        &self,
        client: &Client,
        names: &[String],
        found: &mut Found,
        out: &mut Out,
    ) -> Result<Listed<K::Object>, Error> {
        if names.is_empty() {
            let request = ListRequest {
                namespace: self.namespace.clone(),
                label_selector: self.args.selector.clone().unwrap_or_default(),
                field: String::new(),
                // Rows show none.
                log_tails: !matches!(self.form, Form::Rows),
                specs: !matches!(self.form, Form::Rows),
            };
            return K::list(client, request).await;
        }
        if self.args.all_namespaces && K::NAMES.namespaced {
            return Err(Error::Usage(
                "a resource cannot be retrieved by name across all namespaces".into(),
            ));
        }
        let mut items = Vec::new();
        for name in names {
            match K::get(client, &self.namespace, name).await {
                Ok(object) => items.push(object),
                Err(error) if error.is_not_found() && self.args.ignore_not_found => {}
                Err(error @ Error::Refused(_)) => {
                    found.failed = true;
                    out.note(error);
                }
                Err(error) => return Err(error),
            }
        }
        // An object's version may be older than the history reaches; the watch begins anew then.
        let version = items.last().and_then(|item| K::metadata(item));
        let resource_version = version.map(|metadata| metadata.resource_version.clone());
        Ok(Listed { resource_version: resource_version.unwrap_or_default(), items })
    }

    /// Those with the fields that are asked for, in the order that is.
    fn chosen<K: Kind>(&self, items: &mut [K::Object]) -> Result<Vec<K::Object>, Error> {
        if self.fields.is_empty() && self.sort.is_none() {
            return Ok(items.to_vec());
        }
        let mut shown = Vec::new();
        for item in items {
            let object = K::manifest(item)?;
            if self.fields.match_object(&object) {
                shown.push((object, item.clone()));
            }
        }
        if let (Some(path), Some(said)) = (&self.sort, &self.args.sort_by) {
            choose::sort(&mut shown, path, said)?;
        }
        Ok(shown.into_iter().map(|(_, item)| item).collect())
    }

    fn table<K: Kind>(
        &self,
        items: &[K::Object],
        table: &mut Table,
        found: &mut Found,
        out: &mut Out,
    ) -> Result<(), Error> {
        if items.is_empty() {
            return Ok(());
        }
        let mut rows = Vec::new();
        if !self.args.no_headers {
            rows.push(self.look.heads::<K>());
        }
        let now = unix_now();
        rows.extend(items.iter().map(|item| self.look.row::<K>("ADDED", item, now)));
        let gap = if found.printed > 0 { "\n" } else { "" };
        found.printed += 1;
        out.text(&format!("{gap}{}", table.lay_out(&rows)))
    }

    fn gather<K: Kind>(&self, item: &K::Object, found: &mut Found) -> Result<(), Error> {
        let object = K::manifest(item)?;
        let name = object["metadata"]["name"].as_str().unwrap_or_default();
        found.names.push(format!("{}/{name}", K::NAMES.singular));
        found.objects.push(if self.args.output_watch_events {
            told("ADDED", object)
        } else {
            object
        });
        Ok(())
    }

    /// Prints what was gathered; says so where there is nothing.
    fn finish(&self, found: &mut Found, one: bool, out: &mut Out) -> Result<(), Error> {
        let mut objects = std::mem::take(&mut found.objects);
        let names = std::mem::take(&mut found.names);
        let whole = |mut objects: Vec<Value>| match (one, objects.pop()) {
            (true, Some(object)) => Some(object),
            (true, None) => None,
            (false, last) => {
                objects.extend(last);
                Some(list_of(objects))
            }
        };
        let heads = !self.args.no_headers;
        match &self.form {
            Form::Rows => {
                self.nothing(found, out);
                Ok(())
            }
            Form::Name => names.iter().try_for_each(|name| out.line(name)),
            Form::Columns(_)
                if objects.is_empty() && (found.failed || self.args.ignore_not_found) =>
            {
                Ok(())
            }
            form => match whole(std::mem::take(&mut objects)) {
                Some(object) => out.text(&form.text(&object, heads, &mut Table::default())?),
                None => Ok(()),
            },
        }
    }

    /// Says so where there is nothing.
    fn nothing(&self, found: &Found, out: &mut Out) {
        if found.printed == 0 && !found.failed && !self.args.ignore_not_found {
            out.note_nothing(&self.namespace);
        }
    }

    /// Prints changes until the reader has had enough.
    async fn follow<K: Kind>(
        &self,
        client: &Client,
        names: &[String],
        listed: Listed<K::Object>,
        mut table: Table,
        out: &mut Out,
    ) -> Result<(), Error> {
        let request = WatchRequest {
            namespace: self.namespace.clone(),
            label_selector: self.args.selector.clone().unwrap_or_default(),
            resource_version: listed.resource_version,
            name: names.first().cloned().unwrap_or_default(),
        };
        let mut watch = Watch::<K>::new(self.context, client.clone(), request, &listed.items);
        let mut heads = !listed.items.is_empty() && !self.args.watch_only || self.args.no_headers;
        let mut there: BTreeSet<(String, String)> = listed.items.iter().map(key::<K>).collect();
        loop {
            let (gone, object) = match watch.next().await? {
                Change::Put(object) => (false, object),
                Change::Gone(object) => (true, object),
                Change::Complete => continue,
                Change::Lost(error) => {
                    out.note(format!("{error}; waiting for it to come back"));
                    continue;
                }
            };
            let manifest = K::manifest(&object)?;
            if !self.fields.match_object(&manifest) {
                continue;
            }
            let event = match (gone, there.insert(key::<K>(&object))) {
                (true, _) => {
                    there.remove(&key::<K>(&object));
                    "DELETED"
                }
                (false, true) => "ADDED",
                (false, false) => "MODIFIED",
            };
            let heads = !std::mem::replace(&mut heads, true);
            self.changed::<K>(event, &object, manifest, heads, &mut table, out)?;
        }
    }

    /// Prints one change.
    fn changed<K: Kind>(
        &self,
        event: &str,
        object: &K::Object,
        manifest: Value,
        heads: bool,
        table: &mut Table,
        out: &mut Out,
    ) -> Result<(), Error> {
        let manifest = if self.args.output_watch_events { told(event, manifest) } else { manifest };
        match &self.form {
            Form::Rows => {
                let mut rows = Vec::new();
                if heads {
                    rows.push(self.look.heads::<K>());
                }
                rows.push(self.look.row::<K>(event, object, unix_now()));
                out.text(&table.lay_out(&rows))
            }
            Form::Name => {
                out.line(format!("{}/{}", K::NAMES.singular, name_of(K::metadata(object))))
            }
            form => {
                let separator = if matches!(form, Form::Yaml) { "---\n" } else { "" };
                out.text(&format!("{separator}{}", form.text(&manifest, heads, table)?))
            }
        }
    }
}

fn key<K: Kind>(object: &K::Object) -> (String, String) {
    let metadata = K::metadata(object);
    (namespace_of(metadata).to_owned(), name_of(metadata).to_owned())
}

/// An object and what happened to it, as one.
fn told(event: &str, object: Value) -> Value {
    json!({"type": event, "object": object})
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;
    use everynode_proto::v1::{DaemonSet, DaemonSetStatus, ObjectMeta};

    use super::*;
    use crate::args::{Cli, Verb};
    use crate::kinds::DaemonSets;
    use crate::out::testing::captured;

    fn sets() -> Vec<DaemonSet> {
        let metadata = ObjectMeta {
            name: "monitoring-daemon".into(),
            namespace: "ops".into(),
            labels: [("app".to_owned(), "m".to_owned())].into(),
            ..ObjectMeta::default()
        };
        let status = DaemonSetStatus {
            desired_number_scheduled: 3,
            current_number_scheduled: 3,
            number_ready: 2,
            updated_number_scheduled: 3,
            number_available: 2,
            ..DaemonSetStatus::default()
        };
        vec![DaemonSet { metadata: Some(metadata), status: Some(status), ..DaemonSet::default() }]
    }

    fn shown(line: &str) -> String {
        let cli = Cli::try_parse_from(line.split_whitespace()).unwrap();
        let context = Context::new(cli.global);
        let Verb::Get(args) = cli.verb else { panic!() };
        let get = Get {
            args: &args,
            context: &context,
            namespace: "ops".into(),
            look: Look::of(&args, false),
            form: Form::of(args.output.as_ref()).unwrap(),
            fields: Fields::default(),
            sort: None,
        };
        let (mut out, text, _) = captured();
        let mut found = Found::default();
        get.table::<DaemonSets>(&sets(), &mut Table::default(), &mut found, &mut out).unwrap();
        text.text()
    }

    #[test]
    fn the_columns_of_daemonsets_are_kubectls() {
        assert_eq!(
            shown("everynode get ds"),
            "NAME                DESIRED   CURRENT   READY   UP-TO-DATE   AVAILABLE   NODE SELECTOR   AGE\n\
             monitoring-daemon   3         3         2       3            2           <none>          <unknown>\n"
        );
        assert!(shown("everynode get ds -A").starts_with("NAMESPACE   NAME   "));
        assert!(
            shown("everynode get ds -o wide")
                .contains("AGE         CONTAINERS   IMAGES   SELECTOR\n")
        );
        assert!(shown("everynode get ds --show-labels").ends_with("<unknown>   app=m\n"));
        assert!(shown("everynode get ds -L app,x/y").contains("AGE         APP   Y\n"));
        assert!(shown("everynode get ds -L app,x/y").ends_with("<unknown>   m     <none>\n"));
        assert!(
            shown("everynode get ds -w --output-watch-events").contains("\nADDED   monitoring")
        );
        assert!(shown("everynode get ds --no-headers").starts_with("monitoring-daemon   3"));
    }

    #[test]
    fn kinds_are_gathered_in_order() {
        let words: Vec<String> = ["ds/a", "no/n", "ds/b"].map(str::to_owned).to_vec();
        let kinds = by_kind(Targets::parse(&words).unwrap());
        assert_eq!(kinds[0], (Resource::DaemonSets, vec!["a".into(), "b".into()]));
        assert_eq!(kinds[1], (Resource::Nodes, vec!["n".into()]));
    }
}
