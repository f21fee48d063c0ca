//! Exact timestamps.
//!
//! Owns: converting epoch milliseconds and ISO-8601 texts to integers, without floats. Must not know: columns or pages.

const NANOS_A_SECOND: i128 = 1_000_000_000;

/// Converts milliseconds, with or without a fraction (`-1.5`), to nanoseconds. Returns `None` if a digit below a
/// nanosecond is not zero.
pub(crate) fn epoch_millis_to_nanos(text: &str) -> Option<i128> {
    let (negative, digits) = match text.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, text),
    };
    let (whole, fraction) = digits.split_once('.').unwrap_or((digits, "0"));
    if whole.is_empty() || whole.len() > 20 || fraction.is_empty() {
        return None;
    }
    let nanos = i128::from(number(whole)?) * 1_000_000 + scaled(fraction, 6)?;
    Some(if negative { -nanos } else { nanos })
}

/// Converts an ISO-8601 text in the format `strict_date_optional_time_nanos` to nanoseconds since 1970. The year has
/// four digits and every other part is optional. Without an offset the time is UTC.
pub(crate) fn iso_to_nanos(text: &str) -> Option<i128> {
    let (date, time) = match text.split_once('T') {
        Some((date, time)) => (date, Some(time)),
        None => (text, None),
    };
    let mut parts = date.split('-');
    let year = fixed(parts.next()?, 4)?;
    let month = parts.next().map_or(Some(1), |part| fixed(part, 2))?;
    let day = parts.next().map_or(Some(1), |part| fixed(part, 2))?;
    if parts.next().is_some() || !(1..=12).contains(&month) || day < 1 || day > days_in(year, month) {
        return None;
    }
    let midnight = days_from_civil(year, month, day) * 86_400;
    let nanos = match time {
        None | Some("") => 0,
        Some(time) => time_to_nanos(time)?,
    };
    Some(i128::from(midnight) * NANOS_A_SECOND + nanos)
}

fn time_to_nanos(text: &str) -> Option<i128> {
    let (clock, offset) = match text.find(['Z', '+', '-']) {
        Some(at) => (&text[..at], offset_seconds(&text[at..])?),
        None => (text, 0),
    };
    let (clock, fraction) = match clock.find(['.', ',']) {
        Some(at) => (&clock[..at], Some(&clock[at + 1..])),
        None => (clock, None),
    };
    let mut parts = clock.split(':');
    let hour = fixed(parts.next()?, 2)?;
    let minute = parts.next().map_or(Some(0), |part| fixed(part, 2))?;
    let second = parts.next();
    if fraction.is_some() && second.is_none() {
        return None;
    }
    let second = second.map_or(Some(0), |part| fixed(part, 2))?;
    if parts.next().is_some() || hour > 23 || minute > 59 || second > 59 {
        return None;
    }
    let fraction = fraction.map_or(Some(0), |digits| scaled(digits, 9))?;
    Some(i128::from(hour * 3600 + minute * 60 + second - offset) * NANOS_A_SECOND + fraction)
}

fn offset_seconds(text: &str) -> Option<i64> {
    if text == "Z" {
        return Some(0);
    }
    let (sign, rest) = text.split_at_checked(1)?;
    let sign = match sign {
        "+" => 1,
        "-" => -1,
        _ => return None,
    };
    let (hours, minutes) = match rest.len() {
        2 => (rest, "00"),
        4 => rest.split_at_checked(2)?,
        _ => rest.split_once(':')?,
    };
    let (hours, minutes) = (fixed(hours, 2)?, fixed(minutes, 2)?);
    (hours <= 18 && minutes <= 59).then_some(sign * (hours * 3600 + minutes * 60))
}

/// Returns a fraction as an integer in units of `10^-places`. Further digits must be zero.
fn scaled(digits: &str, places: usize) -> Option<i128> {
    if digits.is_empty() || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let (kept, rest) = digits.split_at(digits.len().min(places));
    if rest.bytes().any(|byte| byte != b'0') {
        return None;
    }
    let missing = u32::try_from(places - kept.len()).ok()?;
    Some(i128::from(number(kept)?) * 10_i128.pow(missing))
}

fn fixed(text: &str, length: usize) -> Option<i64> {
    if text.len() != length {
        return None;
    }
    i64::try_from(number(text)?).ok()
}

/// Parses digits only, because `str::parse` would accept a plus sign.
fn number(text: &str) -> Option<u64> {
    if text.is_empty() || !text.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    text.parse().ok()
}

fn days_in(year: i64, month: i64) -> i64 {
    match month {
        4 | 6 | 9 | 11 => 30,
        2 if year % 4 == 0 && (year % 100 != 0 || year % 400 == 0) => 29,
        2 => 28,
        _ => 31,
    }
}

/// Returns the days since 1970-01-01: <https://howardhinnant.github.io/date_algorithms.html#days_from_civil>.
fn days_from_civil(year: i64, month: i64, day: i64) -> i64 {
    let year = if month <= 2 { year - 1 } else { year };
    let era = year.div_euclid(400);
    let year_of_era = year.rem_euclid(400);
    let day_of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    let day_of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year;
    era * 146_097 + day_of_era - 719_468
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn iso_text_is_exact_to_the_nanosecond() {
        let cases = [
            ("1970-01-01T00:00:00.000Z", 0),
            ("1970-01-01", 0),
            ("1970", 0),
            ("1969-12-31T23:59:59.999999999Z", -1),
            ("2024-02-29T12:30:00.5Z", 1_709_209_800_500_000_000),
            ("2024-02-29T12:30:00.123456789Z", 1_709_209_800_123_456_789),
            ("2024-02-29T14:30:00+02:00", 1_709_209_800_000_000_000),
            ("2024-02-29T14:30:00+0200", 1_709_209_800_000_000_000),
            ("2024-02-29T09:00-03:30", 1_709_209_800_000_000_000),
            ("0001-01-01T00:00:00Z", -62_135_596_800_000_000_000),
            ("2000-03-01", 951_868_800_000_000_000),
        ];
        for (text, nanos) in cases {
            assert_eq!(iso_to_nanos(text), Some(nanos), "{text}");
        }
    }

    #[test]
    fn what_is_no_iso_text_is_refused() {
        for text in [
            "",
            "x",
            "24-01-01",
            "2024-13-01",
            "2023-02-29",
            "2024-01-01T24:00:00Z",
            "2024-01-01T00:00:00.Z",
            "2024-01-01T00:00:00Zjunk",
            "2024-01-01T00:00:00+",
            "2024-01-01T00:00:00+é",
            "2024-1-1",
            "-2024-01-01",
            "2024-01-01 00:00:00",
            "2024-01-01T00.5",
            "2024-01-01T00:00:00.1234567891Z",
            "+024-01-01",
        ] {
            assert_eq!(iso_to_nanos(text), None, "{text}");
        }
    }

    #[test]
    fn epoch_millis_keep_sign_and_fraction() {
        let cases = [
            ("1700000000000", 1_700_000_000_000_000_000),
            ("1700000000000.123456", 1_700_000_000_000_123_456),
            ("-1", -1_000_000),
            ("-0.000001", -1),
            ("1.5", 1_500_000),
        ];
        for (text, nanos) in cases {
            assert_eq!(epoch_millis_to_nanos(text), Some(nanos), "{text}");
        }
        for text in ["", "-", ".", "1.", "+1", "1e3", "1.1234567", "999999999999999999999999"] {
            assert_eq!(epoch_millis_to_nanos(text), None, "{text}");
        }
    }
}
