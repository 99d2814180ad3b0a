//! A word before the certificate in the configuration ends: afterwards nothing can be asked with it.

use everynode_model::WallTime;
use everynode_transport::identity::certificates_from_pem;
use everynode_transport::{Validity, is_plausible};

use crate::age::{rfc3339_millis, short};

/// How long before: time enough to be read by somebody who comes by once a month.
const SOON: i64 = 30 * 24 * 60 * 60;

/// What to say of this certificate (PEM, with its chain), when it is `now` (seconds since 1970).
pub(crate) fn warning(certificate: &[u8], now: i64) -> Option<String> {
    let chain = certificates_from_pem(certificate).ok()?;
    let validity = Validity::of_der(chain.first()?)?;
    let left = validity.not_after - now;
    // What a clock that was never set says of dates, here or there, is no reason to warn.
    let known = validity.is_plausible() && is_plausible(WallTime::from_unix_millis(now * 1000));
    if !known || left > SOON {
        return None;
    }
    let date = rfc3339_millis(validity.not_after.saturating_mul(1000));
    let when = match left {
        ..=0 => format!("expired at {date}"),
        _ => format!("expires at {date}, in {}", short(left)),
    };
    Some(format!(
        "warning: the certificate in the configuration {when}; for a new admin.conf, on the \
         coordinator's machine: stop it, run `everynode-coordinator admin-conf`, start it"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;
    use rcgen::{CertificateParams, KeyPair, date_time_ymd};

    #[test]
    fn it_is_said_in_the_last_month_and_after() {
        let mut params = CertificateParams::default();
        params.not_before = date_time_ymd(2026, 1, 1);
        params.not_after = date_time_ymd(2027, 1, 1);
        let pem = params.self_signed(&KeyPair::generate().unwrap()).unwrap().pem();
        let said = |year: i32, month: u8, day: u8| {
            warning(pem.as_bytes(), date_time_ymd(year, month, day).unix_timestamp())
        };
        assert_eq!((said(2026, 6, 1), said(2026, 11, 30), said(1970, 1, 1)), (None, None, None));
        let soon = said(2026, 12, 25).unwrap();
        assert!(soon.contains("expires at 2027-01-01T00:00:00Z, in 7d"), "{soon}");
        assert!(said(2027, 1, 2).unwrap().contains("expired at 2027-01-01"));
        assert_eq!(warning(b"no certificate", 0), None);
    }
}
