//! The dates in logs.

use std::fmt;
use std::time::Duration;

/// A date (since 1970) as RFC 3339 with nanoseconds, in UTC: as text in the order of time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LogDate(pub Duration);

impl fmt::Display for LogDate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let seconds = self.0.as_secs();
        let (year, month, day) = date_of(seconds / 86_400);
        let (hour, minute, second) = (seconds / 3600 % 24, seconds / 60 % 60, seconds % 60);
        let nanos = self.0.subsec_nanos();
        write!(f, "{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{nanos:09}Z")
    }
}

/// The Gregorian date so many days after 1970-01-01. Counted in eras of 400 years from the first
/// of March of year 0, so that the leap day is the last of its year.
const fn date_of(days: u64) -> (u64, u64, u64) {
    let days = days + 719_468;
    let (era, day_of_era) = (days / 146_097, days % 146_097);
    let year_of_era =
        (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    // Months from March on have 30.6 days: 153 in five.
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = if month_from_march < 10 { month_from_march + 3 } else { month_from_march - 9 };
    let year = era * 400 + year_of_era + if month <= 2 { 1 } else { 0 };
    (year, month, day)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_are_gregorian() {
        let date = |seconds| LogDate(Duration::from_secs(seconds)).to_string();
        assert_eq!(date(0), "1970-01-01T00:00:00.000000000Z");
        assert_eq!(date(951_782_400), "2000-02-29T00:00:00.000000000Z");
        assert_eq!(date(4_107_542_399), "2100-02-28T23:59:59.000000000Z");
        assert_eq!(date(4_107_542_400), "2100-03-01T00:00:00.000000000Z");
    }
}
