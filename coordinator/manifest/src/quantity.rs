//! Kubernetes quantities: `500m`, `0.5`, `1Gi`, `1e3`.

use std::cmp::Ordering;
use std::fmt;
use std::str::FromStr;

/// An exact amount, in billionths: Kubernetes' smallest unit is the nano.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Quantity {
    nanos: i128,
}

/// A text that is not a quantity.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "quantities must match the regular expression \
     '^([+-]?[0-9.]+)([eEinumkKMGTP]*[-+]?[0-9]*)$', such as 500m, 0.5, 1Gi or 1e3"
)]
pub struct InvalidQuantity;

const ONE: i128 = 1_000_000_000;

/// Longer texts are refused before any arithmetic; the longest sensible one has about 30.
const MAX_LEN: usize = 64;

impl Quantity {
    /// Whether it is less than nothing.
    pub const fn is_negative(self) -> bool {
        self.nanos < 0
    }

    /// Both together, cut where an amount ends.
    pub(crate) const fn plus(self, other: Self) -> Self {
        Self { nanos: self.nanos.saturating_add(other.nanos) }
    }

    /// The text that Kubernetes gives a computed amount: `1500m`, or in powers of two `6Gi`.
    pub(crate) fn canonical(self, binary: bool) -> String {
        const DECIMAL: [&str; 10] = ["n", "u", "m", "", "k", "M", "G", "T", "P", "E"];
        const BINARY: [&str; 7] = ["", "Ki", "Mi", "Gi", "Ti", "Pi", "Ei"];
        let whole = self.nanos / ONE;
        let binary = binary && whole.abs() >= 1024;
        let (mut amount, step, suffixes) = match binary {
            // Powers of two have no fractions: they are rounded up.
            true => (whole + i128::from(self.nanos % ONE > 0), 1024, &BINARY[..]),
            false => (self.nanos, 1000, &DECIMAL[..]),
        };
        let mut suffix = 0;
        while amount != 0 && amount % step == 0 && suffix + 1 < suffixes.len() {
            amount /= step;
            suffix += 1;
        }
        if amount == 0 { "0".into() } else { format!("{amount}{}", suffixes[suffix]) }
    }

    /// Whether it has no fraction.
    pub(crate) const fn is_whole(self) -> bool {
        self.nanos % ONE == 0
    }

    /// Whether it is a whole number of times `size`.
    pub(crate) const fn is_multiple_of(self, size: Self) -> bool {
        size.nanos > 0 && self.nanos % size.nanos == 0
    }
}

impl FromStr for Quantity {
    type Err = InvalidQuantity;

    /// Reads Kubernetes' syntax: a signed decimal number and a binary (`Ki`…`Ei`) or decimal
    /// (`n`, `u`, `m`, `k`…`E`) suffix, or an exponent (`e3`). What is finer than a billionth is
    /// rounded away from zero, what exceeds 2^63-1 is cut to it, as in Kubernetes.
    fn from_str(text: &str) -> Result<Self, InvalidQuantity> {
        if text.len() > MAX_LEN || !text.is_ascii() {
            return Err(InvalidQuantity);
        }
        let (negative, unsigned) = match text.as_bytes().first() {
            Some(b'-') => (true, &text[1..]),
            Some(b'+') => (false, &text[1..]),
            _ => (false, text),
        };
        let end =
            unsigned.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(unsigned.len());
        let (number, suffix) = unsigned.split_at(end);
        let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
        if whole.len() + fraction.len() == 0 || fraction.contains('.') {
            return Err(InvalidQuantity);
        }
        let (multiplier, exponent) = scale(suffix)?;
        let digits = format!("{whole}{fraction}");
        let power = 9 + exponent - i32::try_from(fraction.len()).map_err(|_| InvalidQuantity)?;
        let nanos = magnitude(digits.trim_start_matches('0'), multiplier, power);
        Ok(Self { nanos: if negative { -nanos } else { nanos } })
    }
}

impl fmt::Display for Quantity {
    /// The plain decimal number, without suffix, exponent or trailing zeros: one text per amount.
    /// The normal form is made of these texts, so they are as frozen as that.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let sign = if self.nanos < 0 { "-" } else { "" };
        let (whole, rest) = (self.nanos.abs() / ONE, self.nanos.abs() % ONE);
        match rest.cmp(&0) {
            Ordering::Equal => write!(f, "{sign}{whole}"),
            _ => {
                let fraction = format!("{rest:09}");
                write!(f, "{sign}{whole}.{}", fraction.trim_end_matches('0'))
            }
        }
    }
}

/// What a suffix multiplies by: a factor and a power of ten.
fn scale(suffix: &str) -> Result<(i128, i32), InvalidQuantity> {
    let binary = |power: u32| Ok((1_i128 << (10 * power), 0));
    match suffix {
        "" => Ok((1, 0)),
        "n" => Ok((1, -9)),
        "u" => Ok((1, -6)),
        "m" => Ok((1, -3)),
        "k" => Ok((1, 3)),
        "M" => Ok((1, 6)),
        "G" => Ok((1, 9)),
        "T" => Ok((1, 12)),
        "P" => Ok((1, 15)),
        "E" => Ok((1, 18)),
        "Ki" => binary(1),
        "Mi" => binary(2),
        "Gi" => binary(3),
        "Ti" => binary(4),
        "Pi" => binary(5),
        "Ei" => binary(6),
        _ => {
            let exponent = suffix.strip_prefix(['e', 'E']).ok_or(InvalidQuantity)?;
            let exponent: i32 = exponent.parse().map_err(|_| InvalidQuantity)?;
            Ok((1, exponent.clamp(-200, 200)))
        }
    }
}

/// `digits * multiplier * 10^power`, rounded up, at most 2^63-1 whole units.
fn magnitude(digits: &str, multiplier: i128, power: i32) -> i128 {
    let most = i128::from(i64::MAX) * ONE;
    if digits.is_empty() {
        return 0;
    }
    let Some(number) =
        digits.parse::<i128>().ok().and_then(|number| number.checked_mul(multiplier))
    else {
        // Too many digits for exact arithmetic: either beyond the greatest amount or, with a long
        // fraction, finer than anything that is kept; drop the last digit and carry on.
        let shorter = &digits[..digits.len() - 1];
        return magnitude(shorter, multiplier, power.saturating_add(1));
    };
    let factor = 10_i128.checked_pow(power.unsigned_abs());
    match (power < 0, factor) {
        (false, Some(factor)) => number.checked_mul(factor).map_or(most, |nanos| nanos.min(most)),
        (false, None) => most,
        (true, Some(factor)) => (number / factor + i128::from(number % factor != 0)).min(most),
        (true, None) => 1,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plain(text: &str) -> String {
        text.parse::<Quantity>().unwrap().to_string()
    }

    #[test]
    fn one_amount_has_one_text() {
        for (texts, expected) in [
            (&["1000m", "1", "1.0", "01", "1e0", "1000000u", "0.001k", "+1", "1."][..], "1"),
            (&["500m", "0.5", ".5", "5e-1", "500000000n"], "0.5"),
            (&["1Gi", "1024Mi", "1073741824"], "1073741824"),
            (&["1.5Gi", "1536Mi"], "1610612736"),
            (&["1e3", "1k", "1000", "1E3"], "1000"),
            (&["0", "-0", "0m", "0Gi", "0e999"], "0"),
            (&["-0.1", "-100m"], "-0.1"),
            (&["0.1n", "1n", "1e-999", "0.00000000001"], "0.000000001"),
            (
                &["1e99", "9223372036854775807", "99999999999999999999999999999999999999999999"],
                "9223372036854775807",
            ),
        ] {
            for text in texts {
                assert_eq!(plain(text), expected, "{text}");
            }
        }
    }

    #[test]
    fn a_computed_amount_has_kubernetes_text() {
        for (text, binary, canonical) in [
            ("1.5", false, "1500m"),
            ("6Gi", true, "6Gi"),
            ("1536Mi", true, "1536Mi"),
            ("512", true, "512"),
            ("1000", false, "1k"),
            ("1001", false, "1001"),
            ("1025.5", true, "1026"),
            ("0", false, "0"),
        ] {
            assert_eq!(text.parse::<Quantity>().unwrap().canonical(binary), canonical, "{text}");
        }
    }

    #[test]
    fn other_texts_are_refused() {
        for bad in
            ["", "m", ".", "1.2.3", "1mi", "1 Gi", "1K", "1e", "1e1.5", "--1", "0x1", "1GiB", "ü"]
        {
            assert_eq!(bad.parse::<Quantity>(), Err(InvalidQuantity), "{bad}");
        }
        assert_eq!("1".repeat(65).parse::<Quantity>(), Err(InvalidQuantity));
    }

    #[test]
    fn amounts_compare_as_numbers() {
        let quantity = |text: &str| text.parse::<Quantity>().unwrap();
        assert!(quantity("999m") < quantity("1"));
        assert!(quantity("1G") < quantity("1Gi"));
        assert!(quantity("-1m").is_negative());
    }
}
