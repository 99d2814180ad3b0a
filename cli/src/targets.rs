//! `TYPE NAME...`, `TYPE/NAME...`, `TYPE,TYPE`: which objects a verb is about.

use crate::error::Error;
use crate::kinds::Resource;

/// What the arguments name.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Targets {
    /// All objects of these kinds (as far as flags don't narrow them down).
    Kinds(Vec<Resource>),
    /// These objects, in the order given.
    Objects(Vec<(Resource, String)>),
}

impl Targets {
    /// Reads the arguments as kubectl does.
    pub(crate) fn parse(arguments: &[String]) -> Result<Self, Error> {
        let Some((first, names)) = arguments.split_first() else {
            return Err(usage("say what: a type (daemonsets, nodes, pods, …), and names"));
        };
        if arguments.iter().any(|argument| argument.contains('/')) {
            return arguments
                .iter()
                .map(|pair| slashed(pair))
                .collect::<Result<_, _>>()
                .map(Self::Objects);
        }
        // What runs, and what it runs for: kubectl's `all` has neither configuration nor nodes.
        if first == "all" && names.is_empty() {
            return Ok(Self::Kinds(vec![Resource::Pods, Resource::DaemonSets]));
        }
        let kinds: Vec<Resource> = first
            .split(',')
            .filter(|word| !word.is_empty())
            .map(Resource::named)
            .collect::<Result<_, _>>()?;
        if names.is_empty() {
            return Ok(Self::Kinds(kinds));
        }
        let pairs = |kind: Resource| names.iter().map(move |name| (kind, name.clone()));
        Ok(Self::Objects(kinds.into_iter().flat_map(pairs).collect()))
    }

    /// The one object that the arguments name.
    pub(crate) fn one(arguments: &[String]) -> Result<(Resource, String), Error> {
        match Self::parse(arguments)? {
            Self::Objects(mut objects) if objects.len() == 1 => Ok(objects.remove(0)),
            Self::Objects(_) => Err(usage("name one object only")),
            Self::Kinds(_) => Err(usage("name the object: TYPE NAME or TYPE/NAME")),
        }
    }
}

/// The name of the DaemonSet that arguments of `rollout` name.
pub(crate) fn one_daemon_set(arguments: &[String]) -> Result<String, Error> {
    let (kind, name) = Targets::one(arguments)?;
    rolled_out(kind).map(|()| name)
}

/// The names of the DaemonSets that arguments of `rollout` name.
pub(crate) fn daemon_sets(arguments: &[String]) -> Result<Vec<String>, Error> {
    match Targets::parse(arguments)? {
        Targets::Kinds(_) => Err(usage("name the object: TYPE NAME or TYPE/NAME")),
        Targets::Objects(objects) => {
            objects.into_iter().map(|(kind, name)| rolled_out(kind).map(|()| name)).collect()
        }
    }
}

fn rolled_out(kind: Resource) -> Result<(), Error> {
    match kind {
        Resource::DaemonSets => Ok(()),
        other => {
            let kind = other.names().kind;
            Err(usage(&format!("only DaemonSets are rolled out, not a {kind}")))
        }
    }
}

/// The object that `TYPE/NAME` names.
pub(crate) fn slashed(pair: &str) -> Result<(Resource, String), Error> {
    match pair.split_once('/') {
        Some((kind, name)) if !name.is_empty() && !name.contains('/') => {
            Ok((Resource::named(kind)?, name.to_owned()))
        }
        Some(_) => Err(usage(&format!("{pair:?} is not TYPE/NAME"))),
        None => Err(usage("there is no need to give a type apart from TYPE/NAME")),
    }
}

fn usage(text: &str) -> Error {
    Error::Usage(text.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(line: &str) -> Result<Targets, Error> {
        let words: Vec<String> = line.split_whitespace().map(str::to_owned).collect();
        Targets::parse(&words)
    }

    #[test]
    fn the_ways_to_name_objects() {
        let (ds, no) = (Resource::DaemonSets, Resource::Nodes);
        let object = |kind, name: &str| (kind, name.to_owned());
        assert_eq!(parse("ds,nodes").unwrap(), Targets::Kinds(vec![ds, no]));
        assert_eq!(parse("all").unwrap(), Targets::Kinds(vec![Resource::Pods, ds]));
        let two = Targets::Objects(vec![object(ds, "a"), object(ds, "b")]);
        assert_eq!(parse("ds a b").unwrap(), two);
        let mixed = Targets::Objects(vec![object(ds, "a"), object(no, "b")]);
        assert_eq!(parse("ds/a node/b").unwrap(), mixed);
    }

    #[test]
    fn what_names_nothing_is_refused() {
        for line in ["", "ds/a b", "ds/", "ds/a/b", "dss a"] {
            assert!(parse(line).is_err(), "{line:?}");
        }
        let words = ["node/n".to_owned()];
        assert!(one_daemon_set(&words).is_err());
    }
}
