//! kubectl's documented cases, and those of client-go's own tests.

use serde_json::json;

use super::*;

/// The object of kubectl's reference on JSONPath.
fn documented() -> Value {
    json!({
        "kind": "List",
        "items": [
            {"kind": "None", "metadata": {"name": "127.0.0.1", "labels": {"kubernetes.io/hostname": "127.0.0.1"}},
             "status": {"capacity": {"cpu": "4"},
                        "addresses": [{"type": "LegacyHostIP", "address": "127.0.0.1"}]}},
            {"kind": "None", "metadata": {"name": "127.0.0.2"},
             "status": {"capacity": {"cpu": "8"},
                        "addresses": [{"type": "LegacyHostIP", "address": "127.0.0.2"},
                                      {"type": "another", "address": "127.0.0.3"}]}},
        ],
        "users": [
            {"name": "myself", "user": {}},
            {"name": "e2e", "user": {"username": "admin", "password": "secret"}},
        ],
    })
}

fn print(template: &str, object: &Value) -> Result<String, String> {
    JsonPath::template(template)?.print(object)
}

#[test]
fn what_kubectl_documents() {
    let object = documented();
    for (template, expected) in [
        ("kind is {.kind}", "kind is List"),
        ("{['kind']}", "List"),
        ("{.items[*].metadata.name}", "127.0.0.1 127.0.0.2"),
        (
            "{range .items[*]}[{.metadata.name}, {.status.capacity}] {end}",
            "[127.0.0.1, {\"cpu\":\"4\"}] [127.0.0.2, {\"cpu\":\"8\"}] ",
        ),
        (
            "{.items[*]['metadata.name', 'status.capacity']}",
            "127.0.0.1 127.0.0.2 {\"cpu\":\"4\"} {\"cpu\":\"8\"}",
        ),
        ("{..name}", "127.0.0.1 127.0.0.2 myself e2e"),
        ("{.users[?(@.name==\"e2e\")].user.password}", "secret"),
        ("{.items[0].metadata.labels.kubernetes\\.io/hostname}", "127.0.0.1"),
        ("{.items[0].metadata.labels['kubernetes\\.io/hostname']}", "127.0.0.1"),
        (
            "{range .items[*]}{.metadata.name}{\"\\t\"}{.kind}{\"\\n\"}{end}",
            "127.0.0.1\tNone\n127.0.0.2\tNone\n",
        ),
    ] {
        assert_eq!(print(template, &object).as_deref(), Ok(expected), "{template}");
    }
}

#[test]
fn what_client_go_tests() {
    let numbers = json!({"a": [0, 1, 2, 3, 4, 5], "b": {"x": 1, "y": "<&>"}, "n": null, "t": true,
                         "f": 0.5, "e": [], "m": [{"k": 1, "v": "one"}, {"k": 2, "v": "two)"}, {"v": "none"}]});
    for (template, expected) in [
        ("", ""),
        ("hello world", "hello world"),
        ("hello {.t} {\"world\"}", "hello true world"),
        ("{'it\\'s'}", "it's"),
        ("{\"\\u263a\\x21\"}", "\u{263a}!"),
        ("{1}{-2}{0.5}{true}", "1-20.5true"),
        ("{.a}", "[0,1,2,3,4,5]"),
        ("{.a[*]}", "0 1 2 3 4 5"),
        ("{.a[0]}", "0"),
        ("{.a[-1]}", "5"),
        ("{.a[-2:]}", "4 5"),
        ("{.a[1:3]}", "1 2"),
        ("{.a[:-4]}", "0 1"),
        ("{.a[0:6:2]}", "0 2 4"),
        ("{.a[::3]}", "0 3"),
        ("{.a[2:2]}", ""),
        ("{.a[0,2,-1]}", "0 2 5"),
        ("{.b}", "{\"x\":1,\"y\":\"\\u003c\\u0026\\u003e\"}"),
        ("{.b.*}", "1 <&>"),
        ("{.b.y}", "<&>"),
        ("{.missing.deeper[3].x}|", "|"),
        ("{.n}", "null"),
        ("{.n.x}{.n[0]}", ""),
        ("{.e[*]}|", "|"),
        ("{$.t}{@.t}{ .t }", "truetruetrue"),
        ("{.m[?(@.k)].v}", "one two)"),
        ("{.m[?(@.k>1)].v}", "two)"),
        ("{.m[?(@.k<=1)].v}", "one"),
        ("{.m[?(@.k!=1)].v}", "two)"),
        ("{.m[?(@.v=='two)')].k}", "2"),
        ("{.m[?(@.v==\"none\")]}", "{\"v\":\"none\"}"),
        ("{range .m[*]}{range .missing[*]}x{end}{.v},{end}!", "one,two),none,!"),
        ("{range .missing[*]}{.x}{end}after", "after"),
        ("{range .m[*]}{.k};", "1;2;;"),
        ("{..k}", "1 2"),
        ("{.m..v}", "one two) none"),
        ("one\ntwo {.t}\n", "one\ntwo true\n"),
    ] {
        assert_eq!(print(template, &numbers).as_deref(), Ok(expected), "{template}");
    }
}

#[test]
fn what_can_not_be() {
    let object = json!({"a": [0, 1], "b": {"x": 1}, "m": [{"k": 1, "s": "x", "l": [1]}]});
    for (template, expected) in [
        ("{.a", "unclosed action"),
        ("{.a\n}", "unclosed action"),
        ("{.a[0}", "unterminated array"),
        ("{.a[x]}", "invalid array index x"),
        ("{.a['x]}", "invalid array index 'x"),
        ("{'x}", "unterminated quoted string"),
        ("{\"\\q\"}", "invalid syntax"),
        ("{....a}", "invalid multiple recursive descent"),
        ("{.m[?(@.k==1]}", "unterminated filter"),
        ("{.m[?(@.k==1)}", "unclosed array expect ]"),
        ("{hello}", "unrecognized identifier hello"),
        ("{*}", "unrecognized character in action: U+002A '*'"),
        ("{end}", "not in range, nothing to end"),
        ("{+x}", "cannot parse number +"),
        ("{.a[2]}", "array index out of bounds: index 2, length 2"),
        ("{.a[-3]}", "array index out of bounds: index -1, length 2"),
        ("{.a[0:3]}", "array index out of bounds: index 2, length 2"),
        ("{.a[1:0]}", "starting index 1 is greater than ending index 0"),
        ("{.a[0:2:0]}", "step must be > 0, got 0"),
        ("{.b[0]}", "map[string]interface {} is not array or slice"),
        ("{.b[?(@.x)]}", "map[x:1] is not array or slice and cannot be filtered"),
        ("{.m[?(@.k===1)]}", "unrecognized filter operator ==="),
        ("{.m[?(@.k==\"1\")]}", "incompatible types for comparison"),
        ("{.m[?(@.l==1)]}", "invalid type for comparison"),
        ("{.m[?(@.*==1)]}", "can only compare one element at a time"),
    ] {
        let error = print(template, &object).unwrap_err();
        assert!(error.ends_with(expected), "{template}: {error}");
    }
    let deep = format!("{{.a{}", "[?(@".repeat(100));
    assert!(print(&deep, &object).is_err());
    let deep = format!("{{.a{}{}}}", "[?(@".repeat(100), ")]".repeat(100));
    assert!(print(&deep, &object).is_err());
    assert!(print(&"{range .a}".repeat(100), &object).is_err());
}

#[test]
fn flags_take_expressions_without_braces() {
    let object = json!({"a": {"b": 1}});
    for text in ["a.b", ".a.b", "{.a.b}", "{a.b}"] {
        assert_eq!(JsonPath::relaxed(text).unwrap().find(&object), Ok(vec![json!(1)]), "{text}");
    }
    for text in ["", "{}", "{.a}{.b}", "."] {
        assert!(JsonPath::relaxed(text).is_err(), "{text}");
    }
}

#[test]
fn values_as_go_prints_them() {
    for (value, text) in [
        (json!({"b": [1, "x"], "a": null}), "map[a:<nil> b:[1 x]]"),
        (json!(1.0), "1"),
        (json!(1e21), "1e+21"),
        (json!(0.00001), "1e-05"),
        (json!(1_234_567.5), "1234567.5"),
    ] {
        assert_eq!(go_text(&value), text);
    }
}
