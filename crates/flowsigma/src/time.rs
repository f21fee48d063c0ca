//! Times: parsed from what people write, and printed in RFC 3339 and UTC.
//!
//! Owns: the forms of a time. Must not know: what a time bounds.

use anyhow::{Context, bail};
use jiff::tz::TimeZone;
use jiff::{Span, Timestamp, civil};

/// A bound of a time range.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Bound {
    /// Milliseconds since the epoch. None means no bound.
    pub(crate) at: Option<i64>,
    /// The origin of its zone.
    pub(crate) zone: Zone,
}

/// The origin of the zone of a bound.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Zone {
    /// The text has a zone, or needs none.
    Given,
    /// The text has no zone, so it is read as UTC.
    Assumed,
}

/// Parses `now`, `all`, a length before `end`, or a time. A date alone is its first instant. `now` and `end` are in
/// milliseconds since the epoch.
///
/// # Errors
///
/// If the text has none of these forms, or a length reaches too far back.
pub(crate) fn parse_bound(text: &str, now: i64, end: i64) -> anyhow::Result<Bound> {
    let given = |at| Ok(Bound { at, zone: Zone::Given });
    match text {
        "now" => return given(Some(now)),
        "all" => return given(None),
        _ => {}
    }
    if let Ok(at) = text.parse::<Timestamp>() {
        return given(Some(at.as_millisecond()));
    }
    // A text such as `2026-01-01T00:00:00[Europe/Berlin]` names a zone, which the parser of civil times ignores.
    if !text.contains('[')
        && let Ok(civil) = text.parse::<civil::DateTime>()
    {
        let at = civil.to_zoned(TimeZone::UTC)?.timestamp();
        return Ok(Bound { at: Some(at.as_millisecond()), zone: Zone::Assumed });
    }
    match length(text).map(|length| before(end, length)) {
        Some(at) => given(Some(at.with_context(|| format!("\"{text}\" is too long ago"))?)),
        None => bail!(
            "\"{text}\" is not a time; use now, all, a length such as 30m, 1h, 7d, 2w, 3M (months) or 1y, \
             2026-01-01 or 2026-01-01T00:00:00Z"
        ),
    }
}

/// Parses a length. Seconds to weeks have a fixed length; months and years are those of the calendar, in UTC.
fn length(text: &str) -> Option<Span> {
    let unit = text.chars().next_back()?;
    let digits = text.strip_suffix(unit)?;
    // `parse` accepts a sign, which a length must not have.
    let number = digits.bytes().all(|b| b.is_ascii_digit()).then(|| digits.parse::<u32>())?.ok()?;
    let number = i64::from(number);
    let span = Span::new();
    match unit {
        's' => span.try_seconds(number),
        'm' => span.try_minutes(number),
        'h' => span.try_hours(number),
        'd' => span.try_hours(number * 24),
        'w' => span.try_hours(number * 24 * 7),
        'M' => span.try_months(number),
        'y' => span.try_years(number),
        _ => return None,
    }
    .ok()
}

fn before(end: i64, length: Span) -> anyhow::Result<i64> {
    let end = Timestamp::from_millisecond(end)?.to_zoned(TimeZone::UTC);
    Ok(end.checked_sub(length)?.timestamp().as_millisecond())
}

/// Formats a time in RFC 3339 with `Z`.
pub(crate) fn show_time(epoch_millis: i64) -> String {
    match Timestamp::from_millisecond(epoch_millis) {
        Ok(at) => at.to_string(),
        Err(_) => format!("{epoch_millis} ms since 1970"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<Bound, String> {
        parse_bound(text, 9_000_000, 8_000_000).map_err(|e| format!("{e:#}"))
    }

    fn at(text: &str) -> i64 {
        let bound = parse(text).unwrap();
        assert_eq!(bound.zone, Zone::Given, "{text}");
        bound.at.unwrap()
    }

    #[test]
    fn lengths_count_back_from_the_end() {
        assert_eq!(at("now"), 9_000_000);
        assert_eq!(at("90s"), 8_000_000 - 90_000);
        assert_eq!(at("30m"), 8_000_000 - 1_800_000);
        assert_eq!(at("1h"), 8_000_000 - 3_600_000);
        assert_eq!(at("7d"), 8_000_000 - 7 * 86_400_000);
        assert_eq!(at("2w"), 8_000_000 - 14 * 86_400_000);
        assert_eq!(at("0s"), 8_000_000);
        assert_eq!(parse("all"), Ok(Bound { at: None, zone: Zone::Given }));
    }

    #[test]
    fn months_and_years_are_those_of_the_calendar() {
        let back = |text, end: &str| {
            let end = end.parse::<Timestamp>().unwrap().as_millisecond();
            show_time(parse_bound(text, end, end).unwrap().at.unwrap())
        };
        assert_eq!(back("1M", "2026-03-31T10:00:00Z"), "2026-02-28T10:00:00Z");
        assert_eq!(back("5y", "2026-07-01T00:00:00Z"), "2021-07-01T00:00:00Z");
        assert_eq!(back("1y", "2024-02-29T00:00:00Z"), "2023-02-28T00:00:00Z");
    }

    #[test]
    fn a_time_without_a_zone_is_utc_and_that_is_known() {
        assert_eq!(at("1970-01-01T00:00:01.5Z"), 1_500);
        assert_eq!(at("1970-01-01 00:00:01Z"), 1_000);
        assert_eq!(at("1970-01-01T02:00:01+02:00"), 1_000);
        for (text, at) in [
            ("1970-01-02", 86_400_000),
            ("1970-01-01T00:00:01.5", 1_500),
            ("1970-01-01 00:00:01", 1_000),
            ("1970-01-01T00:01", 60_000),
        ] {
            assert_eq!(parse(text), Ok(Bound { at: Some(at), zone: Zone::Assumed }), "{text}");
        }
    }

    #[test]
    fn what_is_no_time_is_refused_with_what_is() {
        for wrong in [
            "",
            "1",
            "h",
            "-1h",
            "+1h",
            "1x",
            "1Y",
            "99999999999h",
            "yesterday",
            "é",
            "2026-13-01",
            "2026-01-01T00:00:00[Europe/Berlin]",
        ] {
            let said = parse(wrong).unwrap_err();
            assert!(said.starts_with(&format!("\"{wrong}\" is not a time; use now, all, ")), "{said}");
        }
        let said = parse("19000y").unwrap_err();
        assert!(said.starts_with("\"19000y\" is too long ago"), "{said}");
    }

    #[test]
    fn what_is_printed_is_accepted() {
        for millis in [0, 1_500, 1_767_225_600_000, -1] {
            assert_eq!(at(&show_time(millis)), millis);
        }
    }
}
