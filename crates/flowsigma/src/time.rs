//! Times as people write them.

use anyhow::bail;

/// Milliseconds since 1970 of `now`, of a length before `end`, or of an RFC 3339 time.
pub(crate) fn parse_time(text: &str, now: i64, end: i64) -> anyhow::Result<i64> {
    if text == "now" {
        return Ok(now);
    }
    if let Ok(at) = text.parse::<jiff::Timestamp>() {
        return Ok(at.as_millisecond());
    }
    let unit = match text.chars().last() {
        Some('s') => 1_000,
        Some('m') => 60_000,
        Some('h') => 3_600_000,
        Some('d') => 86_400_000,
        _ => 0,
    };
    let number = text.get(..text.len().saturating_sub(1)).and_then(|n| n.parse::<u32>().ok());
    match number.map(|n| i64::from(n) * unit) {
        Some(length) if unit > 0 => Ok(end - length),
        _ => bail!("\"{text}\" is no time: write now, 30m, 1h, 7d or 2026-01-01T00:00:00Z"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths_count_back_from_the_end() {
        let parse = |text: &str| parse_time(text, 9_000_000, 8_000_000).map_err(|e| e.to_string());
        assert_eq!(parse("now"), Ok(9_000_000));
        assert_eq!(parse("90s"), Ok(8_000_000 - 90_000));
        assert_eq!(parse("1h"), Ok(8_000_000 - 3_600_000));
        assert_eq!(parse("1970-01-01T00:00:01.5Z"), Ok(1_500));
        for wrong in ["", "1", "h", "-1h", "1w", "99999999999h", "yesterday", "é"] {
            assert_eq!(
                parse(wrong),
                Err(format!("\"{wrong}\" is no time: write now, 30m, 1h, 7d or 2026-01-01T00:00:00Z"))
            );
        }
    }
}
