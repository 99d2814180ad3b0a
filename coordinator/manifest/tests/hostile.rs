//! Files that are broken, or meant to break the reader: each has one clear answer, and none costs
//! more than its bounds.

#![allow(clippy::unwrap_used, reason = "helpers of tests")]

mod common;

use common::{TUTORIAL, admitted, errors, parse};
use everynode_manifest::{MAX_MANIFEST_BYTES, MAX_OBJECTS, read};
use serde_json::{Value, json};

/// The first line of what is said of a file.
fn answer(bytes: impl AsRef<[u8]>) -> String {
    let told = read("f.yaml", bytes.as_ref()).unwrap_err().to_string();
    told.lines().next().unwrap_or_default().to_owned()
}

/// The objects of a file.
fn objects(bytes: impl AsRef<[u8]>) -> Vec<Value> {
    let documents = read("f.yaml", bytes.as_ref()).unwrap();
    documents.into_iter().map(|document| document.value).collect()
}

fn utf16(text: &str, bytes: fn(u16) -> [u8; 2]) -> Vec<u8> {
    "\u{feff}".encode_utf16().chain(text.encode_utf16()).flat_map(bytes).collect()
}

#[test]
fn broken_texts_are_told_by_line_and_column() {
    for (text, expected) in [
        ("a:\n\t- b\n", "2:1: a tab where YAML has only spaces: indent with spaces"),
        ("a: 1\n  \tb: 2\n", "2:3: a tab where YAML has only spaces: indent with spaces"),
        ("a: 1\nb:\n  c: 2\n  c: 3\n", "4:3: the key \"c\" is there twice, first in line 3"),
        ("{\"a\": 1, \"a\": 2}", "1:10: the key \"a\" is there twice, first in line 1"),
        ("a: *x\n", "1:4: there is no anchor &x before this alias"),
        ("a: &x [*x]\n", "1:8: this alias stands within its own anchor"),
        ("a: 1\n---\nb: [1,\n---\nc: 1\n", "3:4: unclosed bracket '['"),
        (
            "a: 1\n---\nhello\n",
            "3:1: not an object: a manifest begins with `apiVersion:` and `kind:`",
        ),
        (
            "<!DOCTYPE html>\n<html>\n",
            "1:1: not an object: a manifest begins with `apiVersion:` and `kind:`",
        ),
        (
            "a: {{ .Values.x }}\n",
            "1:5: a key must be text (a template that is still to be filled in?)",
        ),
        (
            "a: 1\n{{- if x }}\nb: 2\n",
            "2:3: \"-\" is only valid inside a block (a template that is still to be filled in?)",
        ),
        ("~: a\n", "1:1: a key must be text, not null; a text is quoted"),
        ("1e9: a\n", "1:1: the key 1e9 is a number with several spellings: write it in quotes"),
        ("a: .inf\n", "1:4: .inf: there is no such number in JSON; a text is quoted"),
        ("a: !!binary eA==\n", "1:13: !!binary is not read: write the text itself"),
        ("a: !!int x\n", "1:10: \"x\" is no !!int"),
        ("a: \"x\n", "1:4: unclosed quote"),
        ("a: b: c\n", "1:5: mapping values are not allowed in this context"),
        ("a:\n  b: 1\n c: 2\n", "3:2: while parsing a block mapping, did not find expected key"),
        (
            "{\"a\": 1}\n{b: 2}\n",
            "2:1: more text behind the end of this document: put a line with --- in between",
        ),
        (
            "{\"a\": 1} {\"b\":\n{\"c\": 2, \"c\": 3}}",
            "2:10: the key \"c\" is there twice, first in line 2",
        ),
        (
            "{\"a\": 1}\n\n{\"c\": 2, \"c\": 3}",
            "3:10: the key \"c\" is there twice, first in line 3",
        ),
        ("c:\n  <<: 5\n", "2:7: << takes a map or a list of maps"),
        (
            "b: &b {x: 1}\nc:\n  x: 3\n  <<: *b\n",
            "4:7: the key \"x\" stands before << which has it, too, and readers differ on which counts: put << first",
        ),
        (
            "b: &b {x: 1}\nc:\n  <<: *b\n  <<: *b\n",
            "4:3: the key << is there twice; it takes a list of maps",
        ),
    ] {
        assert_eq!(answer(text), format!("f.yaml:{expected}"), "{text}");
    }
}

#[test]
fn what_is_no_text_is_told_by_its_byte() {
    for (bytes, expected) in [
        (
            &b"a: 1\nb: \xff\n"[..],
            ":2:4: not UTF-8 text: byte 0xff at offset 8; save the file as UTF-8",
        ),
        (b"a: \xe2\x82", ":1:4: not UTF-8 text: byte 0xe2 at offset 3; save the file as UTF-8"),
        (
            b"a: x\0y\n",
            ":1:5: the control character U+0000 may not stand in a manifest (a binary file, or UTF-16 without its mark?)",
        ),
        (b"\x7fELF\x02\x01", ":1:1: the control character U+007F may not stand in a manifest"),
        (b"a: \x1b[2J\n", ":1:4: the control character U+001B may not stand in a manifest"),
        (
            b"\xff\xfea\0:",
            ": not UTF-16 text: a broken character at offset 4; save the file as UTF-8",
        ),
        (
            b"\xff\xfe\0\xdc",
            ": not UTF-16 text: a broken character at offset 2; save the file as UTF-8",
        ),
        (b"\xff\xfe\0\0a\0\0\0", ": UTF-32 text: save the file as UTF-8"),
    ] {
        assert_eq!(answer(bytes), format!("f.yaml{expected}"));
    }
}

#[test]
fn what_windows_writes_is_read() {
    let plain = objects(TUTORIAL);
    for bytes in [
        TUTORIAL.replace('\n', "\r\n").into_bytes(),
        format!("\u{feff}{TUTORIAL}").into_bytes(),
        utf16(TUTORIAL, u16::to_le_bytes),
        utf16(&TUTORIAL.replace('\n', "\r\n"), u16::to_be_bytes),
    ] {
        assert_eq!(objects(bytes), plain);
    }
}

#[test]
fn what_says_nothing_holds_no_object() {
    for text in
        ["", "\n\n", "---\n", "---\n---\n# only this\n---\nnull\n...\n", "%YAML 1.1\n---\n", "~"]
    {
        assert_eq!(objects(text), [] as [Value; 0], "{text:?}");
    }
}

#[test]
fn every_bound_is_told_with_its_number() {
    let deep = "nested deeper than 100 levels";
    let repeats = "anchors and aliases repeat more than the 100000 values or 3145728 bytes allowed; write them out";
    let bomb = "a: &a [x,x,x,x,x,x,x,x,x,x]\n".to_owned()
        + &('b'..'h')
            .zip('a'..)
            .map(|(next, last)| format!("{next}: &{next} [{}]\n", format!("*{last},").repeat(10)))
            .collect::<String>();
    let texts = format!("a: &a {}\nb: [{}]\n", "x".repeat(1_000_000), "*a,".repeat(1000));
    let anchors: String = (0..90).map(|i| format!("&a{i} [")).collect();
    let anchors = format!("{anchors}{}{}", "x".repeat(1_000_000), "]".repeat(90));
    let staircase: String = (0..200).map(|i| format!("{}a:\n", " ".repeat(i))).collect();
    for (text, expected) in [
        ("[".repeat(10_000), deep),
        ("- ".repeat(10_000), deep),
        ("{a: ".repeat(10_000), deep),
        ("{\"a\":".repeat(10_000), deep),
        (staircase, deep),
        (
            format!(
                "x: &x {}{}\ny: {}*x{}\n",
                "[".repeat(60),
                "]".repeat(60),
                "[".repeat(60),
                "]".repeat(60)
            ),
            deep,
        ),
        (bomb, repeats),
        (texts, repeats),
        (anchors, repeats),
        ("- 1\n".repeat(600_000), "more than the 500000 values that one file may have; split it"),
        ("---\n".repeat(700_000), "more than the 500000 values that one file may have; split it"),
        (
            "---\na: 1\n".repeat(MAX_OBJECTS + 1),
            "more than the 10000 objects that one file may have",
        ),
        (
            format!("kind: List\nitems:\n{}", "- {a: 1}\n".repeat(MAX_OBJECTS + 1)),
            "more than the 10000 objects that one file may have",
        ),
        (
            "#".repeat(10 * 1024 * 1024),
            "larger than the 3 MiB (3145728 bytes) that a manifest may have; split it",
        ),
    ] {
        let told = answer(&text);
        assert!(told.starts_with("f.yaml:") && told.ends_with(expected), "{told}");
    }
    assert_eq!(
        objects(format!("{TUTORIAL}{}", "#".repeat(MAX_MANIFEST_BYTES - TUTORIAL.len()))).len(),
        1
    );
}

#[test]
fn aliases_and_merges_mean_what_they_say() {
    let text = "base: &b {x: 1, z: {w: 2}}\nmore: &m {x: 5, v: 6}\none: {<<: *b, x: 3}\nboth:\n  <<: [*b, *m]\n  z: 4\n";
    let object = &objects(text)[0];
    assert_eq!(object["one"], json!({"x": 3, "z": {"w": 2}}));
    assert_eq!(object["both"], json!({"x": 1, "z": 4, "v": 6}));
    assert_eq!(objects("a: &a b\n*a : c\n\"<<\": d\n"), [json!({"a": "b", "b": "c", "<<": "d"})]);
    // Anchors are of one document.
    assert!(answer("a: &a 1\n---\nb: *a\n").contains("no anchor &a"));
}

#[test]
fn numbers_and_words_are_read_as_kubectl_reads_them() {
    let changed = |from: &str, to: &str| {
        assert!(TUTORIAL.contains(from));
        parse(&TUTORIAL.replace(from, to))
    };
    let container =
        |field: &str| changed("        image: m", &format!("        {field}\n        image: m"));
    let pod =
        |field: &str| changed("      containers:", &format!("      {field}\n      containers:"));
    let port = |number: &str| container(&format!("ports: [{{containerPort: {number}}}]"));
    for number in ["80", "0x50", "0120", "0o120", "8e1", "80.0", "8_0"] {
        let object = admitted(&port(number)).object;
        assert_eq!(
            object["spec"]["template"]["spec"]["containers"][0]["ports"][0]["containerPort"], 80,
            "{number}"
        );
    }
    let mode = pod("volumes: [{name: c, configMap: {name: c, defaultMode: 0644}}]");
    assert_eq!(
        admitted(&mode).object["spec"]["template"]["spec"]["volumes"][0]["configMap"]["defaultMode"],
        0o644
    );
    for word in ["yes", "on", "y", "TRUE"] {
        assert_eq!(
            admitted(&pod(&format!("hostNetwork: {word}"))).object["spec"]["template"]["spec"]["hostNetwork"],
            true
        );
    }
    let at = "spec.template.spec.containers[0]";
    for (object, expected) in [
        (
            port("80.5"),
            format!("{at}.ports[0].containerPort: Invalid value: 80.5: must be an integer, not a number (json: cannot unmarshal number 80.5 into Go struct field ContainerPort.spec.template.spec.containers.ports.containerPort of type int32)"),
        ),
        (
            port("1:30"),
            format!("{at}.ports[0].containerPort: Invalid value: \"1:30\": must be an integer, not a string (json: cannot unmarshal string into Go struct field ContainerPort.spec.template.spec.containers.ports.containerPort of type int32)"),
        ),
        (
            port("99999999999"),
            format!("{at}.ports[0].containerPort: Invalid value: 99999999999: must be an integer within its range (json: cannot unmarshal number 99999999999 into Go struct field ContainerPort.spec.template.spec.containers.ports.containerPort of type int32)"),
        ),
        (
            container("env: [{name: A, value: 8080}]"),
            format!("{at}.env[0].value: Invalid value: 8080: must be a string, not a number; write it in quotes (json: cannot unmarshal number into Go struct field EnvVar.spec.template.spec.containers.env.value of type string)"),
        ),
        (
            container("env: [{name: A, value: yes}]"),
            format!("{at}.env[0].value: Invalid value: true: must be a string, not true or false; write it in quotes (json: cannot unmarshal bool into Go struct field EnvVar.spec.template.spec.containers.env.value of type string)"),
        ),
        (
            changed("  name: monitoring-daemon", "  name: monitoring-daemon\n  annotations: {port: 9100}"),
            "metadata.annotations[port]: Invalid value: 9100: must be a string, not a number; write it in quotes (json: cannot unmarshal number into Go struct field ObjectMeta.metadata.annotations of type string)".to_owned(),
        ),
        (
            changed("  name: monitoring-daemon", "  name: monitoring-daemon\n  labels: {enabled: on}"),
            "metadata.labels[enabled]: Invalid value: true: must be a string, not true or false; write it in quotes (json: cannot unmarshal bool into Go struct field ObjectMeta.metadata.labels of type string)".to_owned(),
        ),
        (
            pod("hostNetwork: \"yes\""),
            "spec.template.spec.hostNetwork: Invalid value: \"yes\": must be true or false, not a string (json: cannot unmarshal string into Go struct field PodSpec.spec.template.spec.hostNetwork of type bool)".to_owned(),
        ),
    ] {
        assert_eq!(errors(&object), [expected]);
    }
}
