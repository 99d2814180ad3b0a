//! Names of things: DNS labels and subdomains, ports, variables.

use everynode_model::{NodeName, PodKey};

use crate::FieldPath;
use crate::check::Check;

/// Checks a DNS subdomain (RFC 1123), at most 253 characters.
pub(super) fn subdomain(check: &mut Check, path: FieldPath, name: &str) {
    if let Err(error) = NodeName::new(name) {
        check.invalid(path, name, error.to_string());
    }
}

/// Checks a DNS label (RFC 1123), at most 63 characters.
pub(super) fn label(check: &mut Check, path: FieldPath, name: &str) {
    // A key's namespace is such a label; the name beside it is a valid one.
    if let Err(error) = PodKey::new(name, "x") {
        check.invalid(path, name, error.to_string().replace(" or '.'", ""));
    }
}

/// Checks a port's name (RFC 6335): at most 15 of `a-z 0-9 -`, with a letter.
pub(super) fn port_name(check: &mut Check, path: FieldPath, name: &str) {
    let allowed = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    let good = (1..=15).contains(&name.len())
        && name.bytes().all(allowed)
        && name.bytes().any(|byte| byte.is_ascii_lowercase())
        && !name.starts_with('-')
        && !name.ends_with('-')
        && !name.contains("--");
    if !good {
        let rule = "must be at most 15 lower case letters, digits and single '-', with a letter, \
                    and a letter or digit at both ends";
        check.invalid(path, name, rule);
    }
}

/// Checks a port's number.
pub(super) fn port_number(check: &mut Check, path: FieldPath, number: i32) {
    if !(1..=65535).contains(&number) {
        check.invalid(path, number, "must be between 1 and 65535, inclusive");
    }
}

/// Checks an environment variable's name: printable ASCII without `=`.
pub(super) fn variable(check: &mut Check, path: FieldPath, name: &str) {
    if name.is_empty() {
        check.required(path, "");
    } else if !name.bytes().all(|byte| (b' '..=b'~').contains(&byte) && byte != b'=') {
        check.invalid(path, name, "must consist of printable ASCII characters other than '='");
    }
}
