//! A number or a share of one, as Kubernetes writes `maxUnavailable`.

use std::fmt;

/// An absolute number, or a percentage of one (Kubernetes' `IntOrString`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum IntOrPercent {
    /// That many.
    Int(u32),
    /// That share of the whole; may be over 100 only where a rule says so.
    Percent(u32),
}

/// A text that is neither a number nor a number with `%`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InvalidIntOrPercent;

impl IntOrPercent {
    /// Reads `"25%"` or a number.
    ///
    /// # Errors
    /// When it is neither.
    pub fn parse(text: &str) -> Result<Self, InvalidIntOrPercent> {
        let (digits, make): (_, fn(u32) -> Self) = match text.strip_suffix('%') {
            Some(digits) => (digits, Self::Percent),
            None => (text, Self::Int),
        };
        if digits.is_empty() || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
            return Err(InvalidIntOrPercent);
        }
        digits.parse().map(make).map_err(|_| InvalidIntOrPercent)
    }

    /// How many of `whole` this is; a share is rounded up, as a DaemonSet's are in Kubernetes.
    pub fn of(self, whole: usize) -> usize {
        match self {
            Self::Int(number) => number as usize,
            Self::Percent(percent) => whole.saturating_mul(percent as usize).div_ceil(100),
        }
    }

    /// Whether it is nothing, whatever the whole.
    pub const fn is_zero(self) -> bool {
        matches!(self, Self::Int(0) | Self::Percent(0))
    }
}

impl fmt::Display for IntOrPercent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Int(number) => number.fmt(f),
            Self::Percent(percent) => write!(f, "{percent}%"),
        }
    }
}

impl fmt::Display for InvalidIntOrPercent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("must be a number or a percentage such as \"25%\"")
    }
}

impl std::error::Error for InvalidIntOrPercent {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_share_is_rounded_up() {
        assert_eq!(IntOrPercent::Percent(50).of(3), 2);
        assert_eq!(IntOrPercent::Percent(1).of(5), 1);
        assert_eq!(IntOrPercent::Percent(0).of(5), 0);
        assert_eq!(IntOrPercent::Int(7).of(3), 7);
    }

    #[test]
    fn other_texts_are_refused() {
        assert_eq!(IntOrPercent::parse("25%"), Ok(IntOrPercent::Percent(25)));
        for bad in ["", "%", "-1", "1.5", "1 %", "+1", "99999999999"] {
            assert_eq!(IntOrPercent::parse(bad), Err(InvalidIntOrPercent), "{bad}");
        }
    }
}
