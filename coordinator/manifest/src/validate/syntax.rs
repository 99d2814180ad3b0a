//! The forms that Kubernetes wants of texts and numbers, and its words where they have another.
//!
//! Each function gives every message that applies; none where the value is in order. The words are
//! those of Kubernetes' `util/validation`, so that what people find about them holds here, too.

use std::net::IpAddr;

const LABEL: &str = "[a-z0-9]([-a-z0-9]*[a-z0-9])?";
const SUBDOMAIN: &str = r"[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*";
const NAME: &str = "([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]";

/// A DNS label (RFC 1123), at most 63 characters.
pub(crate) fn dns_label(text: &str) -> Vec<String> {
    let mut messages = no_longer_than(63, text);
    if !is_dns_label(text) {
        messages.push(if is_dns_subdomain(text) {
            "must not contain dots".into()
        } else {
            with_form(
                "a lowercase RFC 1123 label must consist of lower case alphanumeric characters or \
                 '-', and must start and end with an alphanumeric character",
                LABEL,
                &["my-name", "123-abc"],
            )
        });
    }
    messages
}

/// A DNS subdomain (RFC 1123), at most 253 characters.
pub(crate) fn dns_subdomain(text: &str) -> Vec<String> {
    let mut messages = no_longer_than(253, text);
    if !is_dns_subdomain(text) {
        messages.push(with_form(
            "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, \
             '-' or '.', and must start and end with an alphanumeric character",
            SUBDOMAIN,
            &["example.com"],
        ));
    }
    messages
}

/// A search domain of a resolver: a DNS subdomain that may have underscores.
pub(crate) fn search_domain(text: &str) -> Vec<String> {
    let mut messages = no_longer_than(253, text);
    if !text
        .split('.')
        .all(|label| is_dns_label(&label.strip_prefix('_').unwrap_or(label).replace('_', "-")))
    {
        messages.push(with_form(
            "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, \
             '_', '-' or '.', and must start and end with an alphanumeric character",
            r"_?[a-z0-9]([-_a-z0-9]*[a-z0-9])?(\._?[a-z0-9]([-_a-z0-9]*[a-z0-9])?)*",
            &["example.com"],
        ));
    }
    messages
}

/// A label's key and the like: a name, perhaps with a DNS subdomain and a slash before it.
pub(crate) fn qualified_name(text: &str) -> Vec<String> {
    const RULE: &str = "must consist of alphanumeric characters, '-', '_' or '.', and must start \
                        and end with an alphanumeric character";
    const EXAMPLES: [&str; 3] = ["MyName", "my.name", "123-abc"];
    let mut messages = Vec::new();
    let name = match text.split('/').collect::<Vec<_>>().as_slice() {
        [name] => *name,
        [prefix, name] => {
            let of_prefix = match *prefix {
                "" => vec!["must be non-empty".into()],
                prefix => dns_subdomain(prefix),
            };
            messages.extend(of_prefix.iter().map(|message| format!("prefix part {message}")));
            *name
        }
        _ => {
            let rule = with_form(&format!("a qualified name {RULE}"), NAME, &EXAMPLES);
            let rest = "with an optional DNS subdomain prefix and '/' (e.g. 'example.com/MyName')";
            return vec![format!("{rule} {rest}")];
        }
    };
    if name.is_empty() {
        messages.push("name part must be non-empty".into());
    } else if name.len() > 63 {
        messages.push(format!("name part {}", too_long(63)));
    }
    if name.is_empty() || !is_name(name) {
        messages.push(with_form(&format!("name part {RULE}"), NAME, &EXAMPLES));
    }
    messages
}

/// A label's value: empty, or a name of at most 63 characters.
pub(crate) fn label_value(text: &str) -> Vec<String> {
    let mut messages = no_longer_than(63, text);
    if !is_name(text) {
        messages.push(with_form(
            "a valid label must be an empty string or consist of alphanumeric characters, '-', '_' \
             or '.', and must start and end with an alphanumeric character",
            "(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?",
            &["MyValue", "my_value", "12345"],
        ));
    }
    messages
}

/// A port's name (RFC 6335).
pub(crate) fn port_name(text: &str) -> Vec<String> {
    let allowed = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    let mut messages = no_longer_than(15, text);
    let mut unless = |good: bool, message: &str| {
        if !good {
            messages.push(message.into());
        }
    };
    unless(
        !text.is_empty() && text.bytes().all(allowed),
        "must contain only alpha-numeric characters (a-z, 0-9), and hyphens (-)",
    );
    unless(
        text.bytes().any(|byte| byte.is_ascii_lowercase()),
        "must contain at least one letter (a-z)",
    );
    unless(!text.contains("--"), "must not contain consecutive hyphens");
    unless(!text.starts_with('-') && !text.ends_with('-'), "must not begin or end with a hyphen");
    messages
}

/// A port's number.
pub(crate) fn port_number(number: i32) -> Vec<String> {
    within(number.into(), 1, 65535)
}

/// A user's or group's number.
pub(crate) fn id(number: i64) -> Vec<String> {
    within(number, 0, i32::MAX.into())
}

/// A key of a ConfigMap or Secret.
pub(crate) fn config_key(text: &str) -> Vec<String> {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"-._".contains(&byte);
    let mut messages = no_longer_than(253, text);
    if text.is_empty() || !text.bytes().all(allowed) {
        messages.push(with_form(
            "a valid config key must consist of alphanumeric characters, '-', '_' or '.'",
            "[-._a-zA-Z0-9]+",
            &["key.name", "KEY_NAME", "key-name"],
        ));
    }
    messages.extend(match text {
        "." => Some("must not be '.'".into()),
        ".." => Some("must not be '..'".into()),
        _ => text.starts_with("..").then(|| "must not start with '..'".into()),
    });
    messages
}

/// An environment variable's name.
pub(crate) fn variable(text: &str) -> Vec<String> {
    let good = text.bytes().all(|byte| (b' '..=b'~').contains(&byte) && byte != b'=');
    let rule = "a valid environment variable name must consist only of printable ASCII characters \
                other than '='";
    if good { Vec::new() } else { vec![rule.into()] }
}

/// An HTTP header's name.
pub(crate) fn http_header(text: &str) -> Vec<String> {
    if !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-') {
        return Vec::new();
    }
    vec![with_form(
        "a valid HTTP header must consist of alphanumeric characters or '-'",
        "[-A-Za-z0-9]+",
        &["X-Header-Name"],
    )]
}

/// A percentage.
pub(crate) fn percent(text: &str) -> Vec<String> {
    let digits = text.strip_suffix('%').unwrap_or_default();
    if !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return Vec::new();
    }
    vec![with_form(
        "a valid percent string must be a numeric string followed by an ending '%'",
        "[0-9]+%",
        &["1%", "93%"],
    )]
}

/// An IP address.
pub(crate) fn ip(text: &str) -> Vec<String> {
    let rule = "must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)";
    if text.parse::<IpAddr>().is_ok() { Vec::new() } else { vec![rule.into()] }
}

/// The name of a kernel parameter, with dots or slashes between its parts.
pub(crate) fn is_sysctl(text: &str) -> bool {
    let part = |part: &str| is_dns_label(&part.replace('_', "-"));
    text.len() <= 253 && text.split(['.', '/']).all(part)
}

/// A path that stays below where it is used from.
pub(crate) fn descending_path(text: &str) -> Vec<String> {
    let mut messages = Vec::new();
    if text.starts_with('/') {
        messages.push("must be a relative path".into());
    }
    messages.extend(no_backsteps(text));
    messages
}

/// A path below a volume that no file of the volume's own has.
pub(crate) fn local_path(text: &str) -> Vec<String> {
    let mut messages = descending_path(text);
    if text.starts_with("..") && !text.starts_with("../") && text != ".." {
        messages.push("must not start with '..'".into());
    }
    messages
}

/// A path without `..` in it.
pub(crate) fn no_backsteps(text: &str) -> Vec<String> {
    let found = text.split('/').any(|part| part == "..");
    if found { vec!["must not contain '..'".into()] } else { Vec::new() }
}

fn within(number: i64, least: i64, most: i64) -> Vec<String> {
    if (least..=most).contains(&number) {
        return Vec::new();
    }
    vec![format!("must be between {least} and {most}, inclusive")]
}

fn is_dns_label(text: &str) -> bool {
    let inner = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    !text.is_empty() && text.bytes().all(inner) && !text.starts_with('-') && !text.ends_with('-')
}

fn is_dns_subdomain(text: &str) -> bool {
    text.split('.').all(is_dns_label)
}

/// Whether it is empty, or letters and digits with `-_.` inside.
fn is_name(text: &str) -> bool {
    let bytes = text.as_bytes();
    bytes.first().is_none_or(u8::is_ascii_alphanumeric)
        && bytes.last().is_none_or(u8::is_ascii_alphanumeric)
        && bytes.iter().all(|byte| byte.is_ascii_alphanumeric() || b"-_.".contains(byte))
}

fn no_longer_than(most: usize, text: &str) -> Vec<String> {
    if text.len() > most { vec![too_long(most)] } else { Vec::new() }
}

fn too_long(most: usize) -> String {
    format!("must be no more than {most} characters")
}

/// A rule with examples and its regular expression, in Kubernetes' very spelling.
fn with_form(rule: &str, form: &str, examples: &[&str]) -> String {
    let examples: Vec<String> = examples.iter().map(|example| format!("'{example}', ")).collect();
    format!("{rule} (e.g. {}regex used for validation is '{form}')", examples.join(" or "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_in_kubernetes_words() {
        assert_eq!(
            dns_subdomain("A_b"),
            [
                "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and must start and end with an alphanumeric character (e.g. 'example.com', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?(\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')"
            ]
        );
        assert_eq!(dns_label("a.b"), ["must not contain dots"]);
        assert_eq!(dns_label(&"a".repeat(64)), ["must be no more than 63 characters"]);
        assert_eq!(
            qualified_name("-a"),
            [
                "name part must consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character (e.g. 'MyName',  or 'my.name',  or '123-abc', regex used for validation is '([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]')"
            ]
        );
        for (text, count) in [
            ("a", 0),
            ("example.com/a_b.C", 0),
            ("", 2),
            ("/a", 1),
            ("a/", 2),
            ("A/b", 1),
            ("a/b/c", 1),
            ("a b", 1),
        ] {
            assert_eq!(qualified_name(text).len(), count, "{text:?}");
        }
        assert_eq!(qualified_name(&"a".repeat(64)).len(), 1);
    }

    #[test]
    fn other_forms() {
        for (good, bad) in [
            (port_name("http-2"), port_name("HTTP")),
            (port_name("a"), port_name("")),
            (label_value(""), label_value("a b")),
            (label_value("a_b.c"), label_value("-")),
            (config_key("a.b_c-D"), config_key("..a")),
            (config_key("a..b"), config_key("a/b")),
            (variable("a.b c"), variable("ä")),
            (http_header("X-A"), http_header("X:")),
            (percent("10%"), percent("10")),
            (percent("0%"), percent("%")),
            (ip("::1"), ip("1.2.3")),
            (search_domain("_tcp.a_b.local"), search_domain("-a")),
            (local_path("a/..b"), local_path("..b")),
            (local_path("a"), local_path("/a")),
            (descending_path("a/b"), descending_path("a/../b")),
            (id(0), id(-1)),
            (port_number(65535), port_number(65536)),
        ] {
            assert!(good.is_empty(), "{good:?}");
            assert!(!bad.is_empty());
        }
        assert!(is_sysctl("net.ipv4.conf.eth0/1.x_y") && !is_sysctl("net..a") && !is_sysctl("A"));
        assert_eq!(local_path("../a"), ["must not contain '..'"]);
    }
}
