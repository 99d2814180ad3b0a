//! Tables of cases: what Kubernetes makes of the same patches.

use serde_json::json;

use super::*;

/// An object with one container list, as the cases need it.
fn pods(containers: Value) -> Value {
    json!({"spec": {"template": {"spec": {"containers": containers}}}})
}

fn pod_spec(spec: Value) -> Value {
    json!({"spec": {"template": {"spec": spec}}})
}

fn strategic(object: &Value, with: &Value) -> Value {
    patch(PatchKind::Strategic, object, with).unwrap()
}

#[test]
fn a_strategic_merge_patch() {
    let ab = json!([{"name": "a", "image": "1"}, {"name": "b", "image": "2", "tty": true}]);
    let cases = [
        (
            "maps merge and nulls remove",
            json!({"x": {"a": 1, "b": 2}}),
            json!({"x": {"b": null, "c": 3, "d": null}}),
            json!({"x": {"a": 1, "c": 3}}),
        ),
        (
            "an item is found by its key",
            pods(ab.clone()),
            pods(json!([{"name": "b", "image": "3"}])),
            pods(json!([{"name": "a", "image": "1"}, {"name": "b", "image": "3", "tty": true}])),
        ),
        (
            "a new item comes before the rest",
            pods(ab.clone()),
            pods(json!([{"name": "c", "image": "3"}])),
            pods(json!([{"name": "c", "image": "3"}, {"name": "a", "image": "1"},
                     {"name": "b", "image": "2", "tty": true}])),
        ),
        (
            "an item is deleted",
            pods(ab.clone()),
            pods(json!([{"name": "a", "$patch": "delete"}])),
            pods(json!([{"name": "b", "image": "2", "tty": true}])),
        ),
        (
            "a list is replaced",
            pods(ab.clone()),
            pods(json!([{"$patch": "replace"}, {"name": "c"}])),
            pods(json!([{"name": "c"}])),
        ),
        (
            "a map is replaced",
            json!({"spec": {"template": {"metadata": {"labels": {"a": "b"}}}}}),
            json!({"spec": {"template": {"$patch": "replace", "spec": {"x": 1}}}}),
            json!({"spec": {"template": {"spec": {"x": 1}}}}),
        ),
        (
            "a map is emptied",
            json!({"x": {"a": 1}}),
            json!({"x": {"$patch": "delete"}}),
            json!({"x": {}}),
        ),
        (
            "an order is obeyed",
            pods(ab.clone()),
            json!({"spec": {"template": {"spec": {
             "$setElementOrder/containers": [{"name": "b"}, {"name": "a"}]}}}}),
            pods(json!([{"name": "b", "image": "2", "tty": true}, {"name": "a", "image": "1"}])),
        ),
        (
            "an item that the order leaves out stays where it was",
            pods(json!([{"name": "a"}, {"name": "sidecar"}, {"name": "b"}])),
            json!({"spec": {"template": {"spec": {
             "$setElementOrder/containers": [{"name": "a"}, {"name": "c"}, {"name": "b"}],
             "containers": [{"name": "c"}]}}}}),
            pods(json!([{"name": "a"}, {"name": "c"}, {"name": "sidecar"}, {"name": "b"}])),
        ),
        (
            "texts go from a list",
            json!({"metadata": {"finalizers": ["a", "b", "c"]}}),
            json!({"metadata": {"$deleteFromPrimitiveList/finalizers": ["b"],
                             "finalizers": ["d"]}}),
            json!({"metadata": {"finalizers": ["d", "a", "c"]}}),
        ),
        (
            "of several sources one is kept",
            pod_spec(json!({"volumes": [{"name": "v", "hostPath": {"path": "/a"}}]})),
            pod_spec(json!({"volumes": [{"name": "v", "emptyDir": {},
                                      "$retainKeys": ["name", "emptyDir"]}]})),
            pod_spec(json!({"volumes": [{"name": "v", "emptyDir": {}}]})),
        ),
        (
            "other lists are replaced",
            pod_spec(json!({"tolerations": [{"key": "a"}, {"key": "b"}]})),
            pod_spec(json!({"tolerations": [{"key": "c"}]})),
            pod_spec(json!({"tolerations": [{"key": "c"}]})),
        ),
        (
            "mounts are told apart by their path",
            pods(json!([{"name": "a", "volumeMounts": [{"name": "v", "mountPath": "/x"}]}])),
            pods(json!([{"name": "a", "volumeMounts": [{"name": "w", "mountPath": "/x"}]}])),
            pods(json!([{"name": "a", "volumeMounts": [{"name": "w", "mountPath": "/x"}]}])),
        ),
        (
            "ports of one number differ by protocol",
            pods(json!([{"name": "a", "ports": [{"containerPort": 53, "protocol": "UDP"},
                                             {"containerPort": 53, "protocol": "TCP"}]}])),
            pods(json!([{"name": "a", "ports": [{"containerPort": 53, "protocol": "TCP",
                                              "name": "dns"}]}])),
            pods(json!([{"name": "a", "ports": [
             {"containerPort": 53, "protocol": "UDP"},
             {"containerPort": 53, "protocol": "TCP", "name": "dns"}]}])),
        ),
        (
            "a port without a protocol is the one of its number",
            pods(json!([{"name": "a", "ports": [{"containerPort": 53, "protocol": "UDP"}]}])),
            pods(json!([{"name": "a", "ports": [{"containerPort": 53, "name": "dns"}]}])),
            pods(json!([{"name": "a", "ports": [
             {"containerPort": 53, "protocol": "UDP", "name": "dns"}]}])),
        ),
        (
            "what is new is taken without its directives",
            json!({}),
            pods(json!([{"name": "a", "image": null}, {"name": "b", "$patch": "delete"}])),
            pods(json!([{"name": "a"}])),
        ),
        (
            "another type takes its place",
            json!({"x": [1]}),
            json!({"x": {"a": 1}}),
            json!({"x": {"a": 1}}),
        ),
    ];
    for (name, object, with, expected) in cases {
        assert_eq!(strategic(&object, &with), expected, "{name}");
    }
}

#[test]
fn strategic_patches_that_fit_nothing() {
    let object = pods(json!([{"name": "a"}]));
    let cases = [
        (
            pods(json!([{"image": "x"}])),
            "spec.template.spec.containers: map: {\"image\":\"x\"} does not contain declared merge \
          key: name",
        ),
        (pods(json!(["x"])), "spec.template.spec.containers: must be a list of maps"),
        (
            json!({"spec": {"$patch": "merge"}}),
            "spec.$patch: unknown patch type found: \"merge\"; there are replace and delete",
        ),
        (
            pods(json!([{"name": "a", "$retainKeys": ["name"], "image": "x"}])),
            "spec.template.spec.containers[a].$retainKeys: has no \"image\", which the patch sets",
        ),
        (
            json!({"spec": {"template": {"spec": {"$setElementOrder/containers": [{"name": "a"}],
            "containers": [{"name": "b"}]}}}}),
            "spec.template.spec.$setElementOrder/containers: the patch has an item that is not among \
          them",
        ),
        (json!([]), "must be a map, as the object is"),
    ];
    for (with, expected) in cases {
        let error = patch(PatchKind::Strategic, &object, &with).unwrap_err();
        assert_eq!(error.to_string(), expected);
    }
}

/// The appendix of RFC 7386, as far as objects stay objects.
#[test]
fn a_merge_patch() {
    let cases = [
        (json!({"a": "b"}), json!({"a": "c"}), json!({"a": "c"})),
        (json!({"a": "b"}), json!({"b": "c"}), json!({"a": "b", "b": "c"})),
        (json!({"a": "b"}), json!({"a": null}), json!({})),
        (json!({"a": "b", "b": "c"}), json!({"a": null}), json!({"b": "c"})),
        (json!({"a": ["b"]}), json!({"a": "c"}), json!({"a": "c"})),
        (json!({"a": "c"}), json!({"a": ["b"]}), json!({"a": ["b"]})),
        (json!({"a": {"b": "c"}}), json!({"a": {"b": "d", "c": null}}), json!({"a": {"b": "d"}})),
        (json!({"a": [{"b": "c"}]}), json!({"a": [1]}), json!({"a": [1]})),
        (json!({"e": null}), json!({"a": 1}), json!({"e": null, "a": 1})),
        (json!({}), json!({"a": {"bb": {"ccc": null}}}), json!({"a": {"bb": {}}})),
    ];
    for (object, with, expected) in cases {
        assert_eq!(patch(PatchKind::Merge, &object, &with).unwrap(), expected, "{object} {with}");
    }
}

#[test]
fn a_json_patch() {
    let object = json!({"a": [1, 2], "b": {"c/d": "x"}});
    let good = [
        (
            json!([{"op": "add", "path": "/a/-", "value": 3}]),
            json!({"a": [1, 2, 3], "b": {"c/d": "x"}}),
        ),
        (
            json!([{"op": "replace", "path": "/b/c~1d", "value": 1}]),
            json!({"a": [1, 2], "b": {"c/d": 1}}),
        ),
        (
            json!([{"op": "test", "path": "/a/0", "value": 1}, {"op": "remove", "path": "/a/0"}]),
            json!({"a": [2], "b": {"c/d": "x"}}),
        ),
        (
            json!([{"op": "move", "from": "/a", "path": "/e"}, {"op": "copy", "from": "/e/0", "path": "/f"}]),
            json!({"b": {"c/d": "x"}, "e": [1, 2], "f": 1}),
        ),
    ];
    for (with, expected) in good {
        assert_eq!(patch(PatchKind::Json, &object, &with).unwrap(), expected, "{with}");
    }
    let doubling = |times: usize| -> Value {
        let step = |from: usize| {
            json!([{"op": "add", "path": format!("/t{}", from + 1), "value": {}},
                   {"op": "copy", "from": format!("/t{from}"), "path": format!("/t{}/x", from + 1)},
                   {"op": "copy", "from": format!("/t{from}"), "path": format!("/t{}/y", from + 1)}])
        };
        let mut all = vec![json!({"op": "add", "path": "/t0", "value": "x".repeat(1000)})];
        (0..times).for_each(|from| all.extend(step(from).as_array().unwrap().clone()));
        Value::Array(all)
    };
    let bad = [
        (json!({"op": "remove"}), "not a JSON patch"),
        (json!([{"op": "remove", "path": "/z"}]), "[0]: "),
        (
            json!([{"op": "test", "path": "/a/0", "value": 1}, {"op": "test", "path": "/a/0", "value": 2}]),
            "[1]: ",
        ),
        (json!([{"op": "replace", "path": "", "value": 1}]), "leaves no object"),
        (doubling(40), "copies make it larger"),
        (
            vec![json!({"op": "test", "path": "/a/0", "value": 1}); 10_001].into(),
            "The allowed maximum operations in a JSON patch is 10000, got 10001",
        ),
    ];
    for (with, expected) in bad {
        let error = patch(PatchKind::Json, &object, &with).unwrap_err().to_string();
        assert!(error.contains(expected), "{error}");
    }
}

/// What `apply` sends, and what comes of it.
fn applied(last: &Value, live: &Value, new: &Value) -> (Value, Value) {
    let sent = three_way(last, live, new);
    let after = strategic(live, &sent);
    // Applied again it changes nothing more.
    assert_eq!(three_way(new, &after, new), json!({}), "again: {sent}");
    (sent, after)
}

#[test]
fn an_apply_is_three_way() {
    let a = |image: &str| json!({"name": "a", "image": image});
    let cases = [
        (
            "nothing new",
            pods(json!([a("1")])),
            pods(json!([{"name": "a", "image": "1", "tty": true}])),
            pods(json!([a("1")])),
            json!({}),
            pods(json!([{"name": "a", "image": "1", "tty": true}])),
        ),
        (
            "what others set stays; what is said no more goes",
            json!({"metadata": {"labels": {"mine": "1", "old": "1"}}}),
            json!({"metadata": {"labels": {"mine": "1", "old": "1", "theirs": "1"}}}),
            json!({"metadata": {"labels": {"mine": "2"}}}),
            json!({"metadata": {"labels": {"mine": "2", "old": null}}}),
            json!({"metadata": {"labels": {"mine": "2", "theirs": "1"}}}),
        ),
        (
            "what others changed is set back",
            pods(json!([a("1")])),
            pods(json!([a("2")])),
            pods(json!([a("1")])),
            json!({"spec": {"template": {"spec": {
             "$setElementOrder/containers": [{"name": "a"}],
             "containers": [{"image": "1", "name": "a"}]}}}}),
            pods(json!([a("1")])),
        ),
        (
            "a container of somebody else's stays",
            pods(json!([a("1"), {"name": "b"}])),
            pods(json!([{"name": "injected"}, a("1"), {"name": "b"}])),
            pods(json!([a("2")])),
            json!({"spec": {"template": {"spec": {
             "$setElementOrder/containers": [{"name": "a"}],
             "containers": [{"image": "2", "name": "a"}, {"$patch": "delete", "name": "b"}]}}}}),
            pods(json!([{"name": "injected"}, a("2")])),
        ),
        (
            "another source of a volume",
            pod_spec(json!({"volumes": [{"name": "v", "hostPath": {"path": "/a"}}]})),
            pod_spec(json!({"volumes": [{"name": "v", "hostPath": {"path": "/a", "type": ""}}]})),
            pod_spec(json!({"volumes": [{"name": "v", "emptyDir": {}}]})),
            pod_spec(json!({"$setElementOrder/volumes": [{"name": "v"}],
             "volumes": [{"$retainKeys": ["emptyDir", "name"], "emptyDir": {}, "name": "v",
                          "hostPath": null}]})),
            pod_spec(json!({"volumes": [{"name": "v", "emptyDir": {}}]})),
        ),
        (
            "another order",
            pods(json!([{"name": "a"}, {"name": "b"}])),
            pods(json!([{"name": "a"}, {"name": "b"}])),
            pods(json!([{"name": "b"}, {"name": "a"}])),
            json!({"spec": {"template": {"spec": {
             "$setElementOrder/containers": [{"name": "b"}, {"name": "a"}]}}}}),
            pods(json!([{"name": "b"}, {"name": "a"}])),
        ),
        (
            "a whole list goes",
            pods(json!([{"name": "a", "env": [{"name": "E"}]}])),
            pods(json!([{"name": "a", "env": [{"name": "E"}], "tty": true}])),
            pods(json!([{"name": "a"}])),
            json!({"spec": {"template": {"spec": {
             "$setElementOrder/containers": [{"name": "a"}],
             "containers": [{"name": "a", "env": null}]}}}}),
            pods(json!([{"name": "a", "tty": true}])),
        ),
        (
            "both protocols of a port",
            pods(json!([{"name": "a", "ports": [{"containerPort": 53, "protocol": "UDP"}]}])),
            pods(json!([{"name": "a", "ports": [{"containerPort": 53, "protocol": "UDP"}]}])),
            pods(json!([{"name": "a", "ports": [{"containerPort": 53, "protocol": "UDP"},
                                             {"containerPort": 53}]}])),
            json!({"spec": {"template": {"spec": {
             "$setElementOrder/containers": [{"name": "a"}],
             "containers": [{"name": "a",
                 "$setElementOrder/ports": [{"containerPort": 53, "protocol": "UDP"},
                                            {"containerPort": 53, "protocol": "TCP"}],
                 "ports": [{"containerPort": 53, "protocol": "TCP"}]}]}}}}),
            pods(json!([{"name": "a", "ports": [{"containerPort": 53, "protocol": "UDP"},
                                             {"containerPort": 53, "protocol": "TCP"}]}])),
        ),
        (
            "nothing was applied before",
            json!(null),
            json!({"x": {"a": 1, "b": 2}}),
            json!({"x": {"a": 2}}),
            json!({"x": {"a": 2}}),
            json!({"x": {"a": 2, "b": 2}}),
        ),
        (
            "a null is a removal",
            json!({"x": {"a": null}}),
            json!({"x": {"a": 1, "b": 1}}),
            json!({"x": {"a": null}}),
            json!({"x": {"a": null}}),
            json!({"x": {"b": 1}}),
        ),
    ];
    for (name, last, live, new, patch, after) in cases {
        let (sent, came) = applied(&last, &live, &new);
        assert_eq!(sent, patch, "{name}");
        assert_eq!(came, after, "{name}");
    }
}
