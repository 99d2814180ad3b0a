//! What people type, and what is refused.

use clap::CommandFactory as _;

use super::*;

fn parse(line: &str) -> Result<Verb, clap::Error> {
    Cli::try_parse_from(line.split_whitespace()).map(|cli| cli.verb)
}

#[test]
fn the_definition_is_consistent() {
    Cli::command().debug_assert();
}

#[test]
fn what_people_type_for_kubectl_is_understood() {
    for line in [
        "everynode create -f daemon-set-definition.yaml",
        "everynode apply -f a.yaml -f b.yaml,c.yaml --dry-run=server -o yaml",
        "everynode replace -R -f dir",
        "everynode delete -f -",
        "everynode get daemonsets",
        "everynode get ds,nodes -A -o wide --no-headers",
        "everynode get po -w -l app=x -n kube-system",
        "everynode get ds/monitoring-daemon -oyaml",
        "everynode describe daemonsets monitoring-daemon",
        "everynode delete node n1 --wait=false --forget",
        "everynode label nodes n1 a=b c- --overwrite",
        "everynode taint nodes n1 a=b:NoExecute c:NoSchedule-",
        "everynode token create --ttl 1h --uses 3 --node-name n --replace --print-join-command",
        "everynode rollout status ds/x --timeout 5m -w=false",
        "everynode rollout history daemonset x --revision 3",
        "everynode create -f x --save-config",
        "everynode apply view-last-applied ds/x -o json",
        "everynode logs x -f --tail=5 -c main --previous",
        "everynode logs -l app=x --all-containers --max-log-requests 9 --prefix --ignore-errors",
        "everynode logs ds/x --since=5m --timestamps=true",
        "everynode apply -f x --server-side",
        "everynode diff -R -f dir",
        "everynode edit ds/x",
        "everynode edit -f x",
        "everynode patch ds x --type=json -p [] --dry-run=server",
        "everynode patch -f x --patch-file y",
        "everynode annotate ds -l a=b note=x --overwrite --resource-version 5",
        "everynode label ds --all a=b --list",
        "everynode wait ds/x pod/y --for=condition=Available=true --timeout=-1s",
        "everynode wait -f x --for delete --timeout 90",
        "everynode get ds -o jsonpath={.items[*].metadata.name} --sort-by .metadata.name",
        "everynode get pods -L a,b --field-selector spec.nodeName=n --output-watch-events -w",
        "everynode why",
        "everynode why node n1",
        "everynode cluster status",
        "everynode cluster resume --allow-removal --dry-run=server",
        "everynode cordon n1 n2",
        "everynode --request-timeout 5 version --client",
        "everynode get ds --config f",
        "everynode demo --nodes 5 --once",
    ] {
        assert!(parse(line).is_ok(), "{line}: {:?}", parse(line));
    }
}

#[test]
fn an_apply_has_its_files() {
    let Ok(Verb::Apply(args)) = parse("everynode apply -f a -f b --dry-run=server") else {
        panic!()
    };
    assert_eq!(args.write.files.filename.len(), 2);
    assert_eq!(args.write.dry_run.dry_run, DryRun::Server);
    let Ok(Verb::Apply(args)) = parse("everynode apply view-last-applied ds x") else { panic!() };
    assert!(args.verb.is_some());
}

#[test]
fn what_makes_no_sense_is_refused() {
    for line in [
        "everynode",
        "everynode create",
        "everynode get",
        "everynode get ds -o xml",
        "everynode get ds -o go-template={{.a}}",
        "everynode get ds -o jsonpath=",
        "everynode apply",
        "everynode apply view-last-applied",
        "everynode diff",
        "everynode edit",
        "everynode patch ds x -p {} --patch-file y",
        "everynode patch ds x --type=other -p {}",
        "everynode wait ds/x",
        "everynode apply -f x --dry-run=maybe",
        "everynode delete ds x -f y",
        "everynode token create --replace",
        "everynode token create --uses 0",
        "everynode get ds --request-timeout soon",
        "everynode demo --nodes 0",
    ] {
        assert!(parse(line).is_err(), "{line}");
    }
}

#[test]
fn durations_may_be_bare_seconds() {
    assert_eq!(duration("90"), Ok(Duration::from_secs(90)));
    assert_eq!(duration("1m30s"), Ok(Duration::from_secs(90)));
    assert!(duration("-1s").is_err());
}
