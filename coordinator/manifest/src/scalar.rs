//! What a scalar means: YAML 1.1 as Kubernetes' reader has it, down to its corners.
//!
//! kubectl reads `yes` and `on` as true, `0644` and `0o644` as 420, `1_000` as a thousand, `08` as
//! eight and `1:30` as text; a manifest must mean the same here. What can't be said in JSON, and
//! keys that have several spellings, are errors.

use granit_parser::{ScalarStyle, Tag};
use serde_json::Value;

/// A scalar, resolved.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Scalar<'a> {
    Null,
    Flag(bool),
    Whole(i64),
    /// Beyond [`Scalar::Whole`].
    Large(u64),
    Float(f64),
    Text(&'a str),
}

/// The value of a scalar in a document; the error is a message for people.
pub(crate) fn value(text: &str, style: ScalarStyle, tag: Option<&Tag>) -> Result<Value, String> {
    Ok(match resolve(text, style, tag)? {
        Scalar::Null => Value::Null,
        Scalar::Flag(flag) => flag.into(),
        Scalar::Whole(number) => number.into(),
        Scalar::Large(number) => number.into(),
        Scalar::Float(number) => json_number(number)
            .ok_or_else(|| format!("{text}: there is no such number in JSON; a text is quoted"))?,
        Scalar::Text(text) => text.into(),
    })
}

/// The text of a scalar that is a key: JSON knows no other keys.
pub(crate) fn key(text: &str, style: ScalarStyle, tag: Option<&Tag>) -> Result<String, String> {
    Ok(match resolve(text, style, tag)? {
        Scalar::Null => return Err("a key must be text, not null; a text is quoted".into()),
        Scalar::Flag(flag) => flag.to_string(),
        Scalar::Whole(number) => number.to_string(),
        Scalar::Large(number) => number.to_string(),
        Scalar::Float(number) => key_of_float(number).ok_or_else(|| {
            format!("the key {text} is a number with several spellings: write it in quotes")
        })?,
        Scalar::Text(text) => text.to_owned(),
    })
}

/// The text of a value that an alias puts where a key is.
pub(crate) fn key_of_value(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text.clone()),
        Value::Bool(_) | Value::Number(_) => Some(value.to_string()),
        Value::Null | Value::Array(_) | Value::Object(_) => None,
    }
}

fn resolve<'a>(text: &'a str, style: ScalarStyle, tag: Option<&Tag>) -> Result<Scalar<'a>, String> {
    let Some(tag) = tag else {
        let plain = style == ScalarStyle::Plain;
        return Ok(if plain { untagged(text) } else { Scalar::Text(text) });
    };
    let found = untagged(text);
    match (tag.core_suffix(), found) {
        (Some("null"), Scalar::Null)
        | (Some("bool"), Scalar::Flag(_))
        | (Some("int"), Scalar::Whole(_) | Scalar::Large(_))
        | (Some("float"), Scalar::Whole(_) | Scalar::Large(_) | Scalar::Float(_)) => Ok(found),
        (Some(wanted @ ("null" | "bool" | "int" | "float")), _) => {
            Err(format!("{text:?} is no !!{wanted}"))
        }
        (Some(wanted @ ("map" | "seq")), _) => Err(format!("a scalar is no !!{wanted}")),
        _ if tag.suffix_in_namespace("tag:yaml.org,2002:").as_deref() == Some("binary") => {
            Err("!!binary is not read: write the text itself".into())
        }
        // `!!str`, `!`, and the tags of other programs.
        _ => Ok(Scalar::Text(text)),
    }
}

fn untagged(text: &str) -> Scalar<'_> {
    match text {
        "" | "~" | "null" | "Null" | "NULL" => Scalar::Null,
        "y" | "Y" | "yes" | "Yes" | "YES" | "true" | "True" | "TRUE" | "on" | "On" | "ON" => {
            Scalar::Flag(true)
        }
        "n" | "N" | "no" | "No" | "NO" | "false" | "False" | "FALSE" | "off" | "Off" | "OFF" => {
            Scalar::Flag(false)
        }
        ".nan" | ".NaN" | ".NAN" => Scalar::Float(f64::NAN),
        ".inf" | ".Inf" | ".INF" | "+.inf" | "+.Inf" | "+.INF" => Scalar::Float(f64::INFINITY),
        "-.inf" | "-.Inf" | "-.INF" => Scalar::Float(f64::NEG_INFINITY),
        _ => number(text).unwrap_or(Scalar::Text(text)),
    }
}

fn number(text: &str) -> Option<Scalar<'static>> {
    match text.as_bytes().first()? {
        b'.' => float(text),
        b'+' | b'-' | b'0'..=b'9' => {
            let plain = text.replace('_', "");
            integer(&plain).or_else(|| float(&plain))
        }
        _ => None,
    }
}

/// As Go's `strconv.ParseInt` with base 0, then `ParseUint`.
fn integer(text: &str) -> Option<Scalar<'static>> {
    let (sign, digits) = match text.split_at_checked(1)? {
        ("-", digits) => (-1, digits),
        ("+", digits) => (1, digits),
        _ => (0, text),
    };
    let prefixed = |letters: &str| {
        let rest = digits
            .strip_prefix('0')?
            .strip_prefix([letters.as_bytes()[0].into(), letters.as_bytes()[1].into()])?;
        (!rest.is_empty()).then_some(rest)
    };
    let (radix, digits) = if let Some(digits) = prefixed("xX") {
        (16, digits)
    } else if let Some(digits) = prefixed("oO") {
        (8, digits)
    } else if let Some(digits) = prefixed("bB") {
        (2, digits)
    } else if let Some(digits) = digits.strip_prefix('0').filter(|digits| !digits.is_empty()) {
        (8, digits)
    } else {
        (10, digits)
    };
    if digits.starts_with(['+', '-']) {
        return None;
    }
    let magnitude = i128::from(u64::from_str_radix(digits, radix).ok()?);
    let signed = if sign < 0 { -magnitude } else { magnitude };
    match (i64::try_from(signed), u64::try_from(signed)) {
        (Ok(number), _) => Some(Scalar::Whole(number)),
        (_, Ok(number)) if sign == 0 => Some(Scalar::Large(number)),
        _ => None,
    }
}

/// A decimal fraction, perhaps with an exponent; beyond what a double holds it is text.
fn float(text: &str) -> Option<Scalar<'static>> {
    let unsigned = text.strip_prefix(['+', '-']).unwrap_or(text);
    let (mantissa, exponent) = match unsigned.split_once(['e', 'E']) {
        Some((mantissa, exponent)) => {
            (mantissa, Some(exponent.strip_prefix(['+', '-']).unwrap_or(exponent)))
        }
        None => (unsigned, None),
    };
    let all_digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let well_formed = all_digits(whole)
        && all_digits(fraction)
        && !(whole.is_empty() && fraction.is_empty())
        && exponent.is_none_or(|exponent| !exponent.is_empty() && all_digits(exponent));
    let number = well_formed.then(|| text.parse::<f64>().ok()).flatten()?;
    number.is_finite().then_some(Scalar::Float(number))
}

/// The number as it stands in JSON, where `1e3` and `1000.0` are the integer 1000.
pub(crate) fn json_number(number: f64) -> Option<Value> {
    /// 2^63: every whole double below it is an `i64`.
    const MOST: f64 = 9_223_372_036_854_775_808.0;
    if number.fract() == 0.0 && number.abs() < MOST {
        #[allow(clippy::cast_possible_truncation, reason = "whole and within the range")]
        return Some(Value::from(number as i64));
    }
    serde_json::Number::from_f64(number).map(Value::Number)
}

/// The one spelling that Kubernetes' reader gives a key such as `1.10`: with the digits that a
/// single-precision number has. Where it would choose an exponent there is none.
fn key_of_float(number: f64) -> Option<String> {
    let plain = number == 0.0 || (1e-4..1e6).contains(&number.abs());
    #[allow(clippy::cast_possible_truncation, reason = "the precision that keys have")]
    plain.then(|| (number as f32).to_string())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn plain(text: &str) -> Value {
        value(text, ScalarStyle::Plain, None).unwrap()
    }

    #[test]
    fn a_plain_scalar_means_what_it_means_to_kubectl() {
        for (texts, meant) in [
            (&["", "~", "null", "Null", "NULL"][..], json!(null)),
            (
                &["y", "Y", "yes", "Yes", "YES", "true", "True", "TRUE", "on", "On", "ON"],
                json!(true),
            ),
            (
                &["n", "N", "no", "No", "NO", "false", "False", "FALSE", "off", "Off", "OFF"],
                json!(false),
            ),
            (
                &[
                    "420",
                    "0644",
                    "0o644",
                    "0O644",
                    "0x1a4",
                    "0b110100100",
                    "4_20",
                    "+420",
                    "420.0",
                    "4.2e2",
                    "42E1",
                ],
                json!(420),
            ),
            (&["0", "-0", "00", "0.0", "-0.0", "0e5", ".0"], json!(0)),
            (&["08"], json!(8)),
            (&["-5", "-0b101", "-05"], json!(-5)),
            (&["1e3", "1E3", "1e+3", "1_000"], json!(1000)),
            (&["0.5", ".5", "5e-1", "+.5"], json!(0.5)),
            (&["-9223372036854775808"], json!(i64::MIN)),
            (&["9223372036854775808"], json!(9_223_372_036_854_775_808_u64)),
            (&["18446744073709551616"], json!(18_446_744_073_709_551_616.0)),
        ] {
            for text in texts {
                assert_eq!(plain(text), meant, "{text}");
            }
        }
        for text in [
            "yEs",
            "tRUE",
            "nULL",
            "oN",
            "1:30",
            "190:20:30",
            "12e",
            "e3",
            ".",
            "+",
            "-",
            "0x",
            "0b2",
            "0o8",
            "09a",
            "1.2.3",
            "1e999",
            "2001-12-14",
            "2001-12-14t21:59:43.10-05:00",
            "0x-1",
            "--1",
            "+-1",
            "1,000",
            "Infinity",
            "inf",
            "nan",
            "=",
            "٣",
        ] {
            assert_eq!(plain(text), json!(text), "{text}");
        }
        for text in [".nan", "-.Inf"] {
            assert!(value(text, ScalarStyle::Plain, None).unwrap_err().contains("in JSON"));
        }
    }

    #[test]
    fn quotes_make_a_text_and_tags_decide() {
        for style in [ScalarStyle::SingleQuoted, ScalarStyle::DoubleQuoted, ScalarStyle::Literal] {
            assert_eq!(value("yes", style, None), Ok(json!("yes")));
        }
        let tagged = |text: &str, suffix: &str| {
            let tag = Tag::new("tag:yaml.org,2002:", suffix);
            value(text, ScalarStyle::DoubleQuoted, Some(&tag))
        };
        assert_eq!(tagged("5", "int"), Ok(json!(5)));
        assert_eq!(tagged("5", "str"), Ok(json!("5")));
        assert_eq!(tagged("5", "float"), Ok(json!(5)));
        assert_eq!(tagged("x", "timestamp"), Ok(json!("x")));
        for (text, suffix) in
            [("x", "int"), ("5", "bool"), ("1.5", "int"), ("x", "map"), ("eA==", "binary")]
        {
            assert!(tagged(text, suffix).is_err(), "!!{suffix} {text}");
        }
    }

    #[test]
    fn keys_are_texts() {
        for (text, meant) in [
            ("app", "app"),
            ("8080", "8080"),
            ("0x10", "16"),
            ("on", "true"),
            ("n", "false"),
            ("1.10", "1.1"),
            ("1.0", "1"),
            ("0.1", "0.1"),
        ] {
            assert_eq!(key(text, ScalarStyle::Plain, None), Ok(meant.to_owned()), "{text}");
        }
        assert_eq!(key("on", ScalarStyle::SingleQuoted, None), Ok("on".to_owned()));
        for text in ["~", "1e9", "0.00001", ".inf"] {
            assert!(key(text, ScalarStyle::Plain, None).is_err(), "{text}");
        }
    }
}
