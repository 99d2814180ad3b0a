//! The join token: one string that lets a machine join, and tells it whom to join.
//!
//! ```text
//!   enj1.<id: 10 hex digits>.<secret: 64 hex digits>.<SHA-256 of the CA certificate: 64 hex digits>
//! ```

use std::fmt;
use std::str::FromStr;

use everynode_model::Digest;

/// The format's name and version.
const PREFIX: &str = "enj1";
const ID_DIGITS: usize = 10;
const SECRET_DIGITS: usize = 64;

/// A join token. Its `Debug` form hides the secret; `Display` is the whole token.
#[derive(Clone, PartialEq, Eq)]
pub struct JoinToken {
    /// The public part, by which the coordinator finds it: 10 lower-case hexadecimal digits.
    pub id: String,
    /// The secret part: 64 lower-case hexadecimal digits.
    pub secret: String,
    /// The SHA-256 of the DER form of the cluster's CA certificate.
    pub authority: Digest,
}

/// A text that is not a join token. No variant shows the text: it may be nearly a secret.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidToken {
    /// It does not begin with `enj1.`.
    #[error("a join token begins with \"enj1.\"")]
    Prefix,
    /// It has not four parts.
    #[error("a join token has four parts, joined by dots; was it copied whole?")]
    Parts,
    /// The id is not 10 lower-case hexadecimal digits.
    #[error("the join token's id is not 10 lower-case hexadecimal digits; was it copied whole?")]
    Id,
    /// The secret is not 64 lower-case hexadecimal digits.
    #[error(
        "the join token's secret is not 64 lower-case hexadecimal digits; was it copied whole?"
    )]
    Secret,
    /// The CA digest is not 64 hexadecimal digits.
    #[error("the join token's CA digest is not 64 hexadecimal digits; was it copied whole?")]
    Authority,
}

impl FromStr for JoinToken {
    type Err = InvalidToken;

    /// Takes surrounding white space away: tokens come from files that end with a newline.
    fn from_str(text: &str) -> Result<Self, InvalidToken> {
        let mut parts = text.trim().split('.');
        if parts.next() != Some(PREFIX) {
            return Err(InvalidToken::Prefix);
        }
        let (Some(id), Some(secret), Some(authority), None) =
            (parts.next(), parts.next(), parts.next(), parts.next())
        else {
            return Err(InvalidToken::Parts);
        };
        if !is_hex(id, ID_DIGITS) {
            return Err(InvalidToken::Id);
        }
        if !is_hex(secret, SECRET_DIGITS) {
            return Err(InvalidToken::Secret);
        }
        let authority = authority.parse().map_err(|_| InvalidToken::Authority)?;
        Ok(Self { id: id.into(), secret: secret.into(), authority })
    }
}

impl fmt::Display for JoinToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{PREFIX}.{}.{}.{}", self.id, self.secret, self.authority)
    }
}

impl fmt::Debug for JoinToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("JoinToken")
            .field("id", &self.id)
            .field("authority", &self.authority)
            .finish_non_exhaustive()
    }
}

fn is_hex(text: &str, digits: usize) -> bool {
    text.len() == digits && text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn token() -> JoinToken {
        JoinToken { id: "0123456789".into(), secret: "ab".repeat(32), authority: Digest::of(b"ca") }
    }

    #[test]
    fn text_and_back_with_a_newline() {
        let text = format!("{}\n", token());
        assert_eq!(text.parse(), Ok(token()));
    }

    #[test]
    fn each_part_is_checked_by_name() {
        let whole = token().to_string();
        let with = |part: usize, value: &str| {
            let mut parts: Vec<&str> = whole.split('.').collect();
            parts[part] = value;
            parts.join(".").parse::<JoinToken>()
        };
        assert_eq!(with(0, "enj2"), Err(InvalidToken::Prefix));
        assert_eq!(with(1, "012345678G"), Err(InvalidToken::Id));
        assert_eq!(with(2, "ab"), Err(InvalidToken::Secret));
        assert_eq!(with(3, "zz"), Err(InvalidToken::Authority));
        assert_eq!("enj1.a.b".parse::<JoinToken>(), Err(InvalidToken::Parts));
        assert_eq!(format!("{whole}.x").parse::<JoinToken>(), Err(InvalidToken::Parts));
    }

    #[test]
    fn debug_output_tells_no_secret() {
        let shown = format!("{:?}", token());
        assert!(shown.contains("0123456789"));
        assert!(!shown.contains("abab"), "{shown}");
    }
}
