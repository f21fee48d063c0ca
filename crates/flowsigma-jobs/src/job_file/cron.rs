//! Cron expressions of job files.
//!
//! Owns: their form, and the times that they stand for. Must not know: what is run then.

use cronexpr::{Crontab, MakeTimestamp};
use jiff::Timestamp;

/// A time before all runs, from which an expression that ever fires is found to fire: leap days come within 8 years.
const PROBE: Timestamp = Timestamp::UNIX_EPOCH;

/// Returns the first time after `after` that an expression with five fields stands for.
pub(super) fn next(cron: &str, zone: Option<&str>, after: Timestamp) -> Result<Timestamp, String> {
    let never = |_| wrong(cron, "it never fires");
    Ok(parse(cron, zone)?.find_next(MakeTimestamp(after)).map_err(never)?.timestamp())
}

/// Checks an expression.
pub(super) fn check(cron: &str, zone: Option<&str>) -> Result<(), String> {
    next(cron, zone, PROBE).map(drop)
}

fn parse(cron: &str, zone: Option<&str>) -> Result<Crontab, String> {
    let fields = cron.split_whitespace().count();
    if fields != 5 {
        return Err(wrong(cron, &format!("it has {fields}; the time zone is window.time_zone")));
    }
    let zone = zone.unwrap_or("UTC");
    cronexpr::parse_crontab(&format!("{} {zone}", cron.trim())).map_err(|error| {
        // The error has the expression with a mark below the place, and the reason on its last line.
        let error = error.to_string();
        let reason = error.lines().last().unwrap_or_default().trim_start_matches([' ', '^']).to_owned();
        wrong(cron, &reason)
    })
}

fn wrong(cron: &str, problem: &str) -> String {
    format!("schedule.cron = {cron:?}: expected five fields, such as \"10 * * * *\": {problem}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_expression_fires_in_the_zone_of_the_window() {
        let after: Timestamp = "2026-03-28T12:00:00Z".parse().unwrap();
        let next = |zone| next("30 4 * * *", zone, after).unwrap().to_string();
        assert_eq!(next(None), "2026-03-29T04:30:00Z");
        // Clocks have gone forward at 02:00.
        assert_eq!(next(Some("Europe/Berlin")), "2026-03-29T02:30:00Z");
    }

    #[test]
    fn a_wrong_expression_is_refused_with_the_reason() {
        assert_eq!(check("0 0 29 2 *", None), Ok(()));
        for (cron, problem) in [
            ("", "it has 0; the time zone is window.time_zone"),
            ("10 * * * * UTC", "it has 6; the time zone is window.time_zone"),
            ("60 * * * *", "value must be in range 0..=59; found 60"),
            ("0 0 31 2 *", "it never fires"),
        ] {
            let expected = "expected five fields, such as \"10 * * * *\"";
            assert_eq!(check(cron, None), Err(format!("schedule.cron = {cron:?}: {expected}: {problem}")));
        }
    }
}
