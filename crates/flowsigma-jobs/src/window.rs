//! The windows of a job.
//!
//! Owns: which windows there are, and when they are due. Must not know: which windows were run.
//!
//! Windows are half-open, and start on the calendar of a time zone. Without `length`, a window ends where the next one
//! starts: no gap, no overlap. Around a change of the clocks it is longer or shorter than `every`: a day has 23 or 25
//! hours. With `length`, a window ends
//! - with the window that many windows later, if `length` is a multiple of `every`;
//! - at midnight of the local calendar, if `length` is whole days;
//! - after exactly this time in all other cases.
//!
//! A length below `every` never reaches past the start of the next window.

mod starts;

use crate::error::{Error, Result};
use crate::job::WindowSpec;
use crate::manifest::WindowTimes;
use crate::span::Span;
use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp, ToSpan};
use starts::Starts;

const DAY: i64 = 86_400;
/// One instant lies in at most so many windows.
const MAX_OVERLAP: i64 = 1000;
const DEFAULT_DELAY: &str = "5m";
const DEFAULT_ZONE: &str = "UTC";

/// The windows of a job, from its `[window]`.
#[derive(Clone, Debug)]
pub struct Calendar {
    starts: Starts,
    every: Span,
    length: Length,
    delay: Span,
    recheck: Option<Span>,
    from: Option<Timestamp>,
}

/// Where a window ends.
#[derive(Clone, Copy, Debug)]
enum Length {
    /// At the start of the window so many windows later.
    Windows(i64),
    /// At midnight so many days later.
    Days(i64),
    /// After so many seconds.
    Seconds(i64),
}

impl Calendar {
    /// Checks the keys of `[window]`.
    ///
    /// # Errors
    ///
    /// If a duration, the time zone or `from` cannot be read or is out of bounds. The error names the key.
    pub fn try_new(spec: &WindowSpec) -> Result<Self> {
        let every = span("every", &spec.every)?;
        let starts = Starts::try_new(zone(spec.time_zone.as_deref())?, every.seconds()).ok_or_else(|| {
            let expected = "a duration that divides a day, such as 5m, 15m, 1h or 6h, or 1d, or 1w";
            wrong("every", &spec.every, expected)
        })?;
        let delay = span("delay", spec.delay.as_deref().unwrap_or(DEFAULT_DELAY))?;
        let recheck = spec.recheck.as_deref().map(|text| span("recheck", text)).transpose()?;
        // A recheck of 0s is none.
        let recheck = recheck.filter(|recheck| recheck.seconds() > 0);
        if let Some(recheck) = recheck.filter(|recheck| recheck.seconds() <= delay.seconds()) {
            let expected = format!("more than window.delay ({delay}), because a window is run only then");
            return Err(wrong("recheck", &recheck.to_string(), &expected));
        }
        let from = spec.from.as_deref().map(|text| {
            text.parse::<Timestamp>()
                .map_err(|_| wrong("from", text, "a time in RFC 3339, such as 2026-01-01T00:00:00Z"))
        });
        Ok(Self {
            starts,
            every,
            length: length(spec.length.as_deref(), every)?,
            delay,
            recheck,
            from: from.transpose()?,
        })
    }

    /// Returns the time zone.
    pub fn zone(&self) -> &TimeZone {
        self.starts.zone()
    }

    /// Returns the distance between the starts of two windows, as the job file has it.
    pub fn every(&self) -> Span {
        self.every
    }

    /// Returns how long after its end a window is due.
    pub fn delay(&self) -> Span {
        self.delay
    }

    /// Returns how long after its end the documents of a window are counted again.
    pub fn recheck(&self) -> Option<Span> {
        self.recheck
    }

    /// Returns all windows that start at or after `from` and before `until`, in order. `from` of the job file has no
    /// influence.
    pub fn windows(&self, from: Timestamp, until: Timestamp) -> impl Iterator<Item = WindowTimes> + '_ {
        let first = self.starts.at_or_after(from);
        std::iter::successors(first, |start| self.starts.after(*start))
            .take_while(move |start| *start < until)
            .map_while(|start| self.window_from(start))
    }

    /// Returns the window that starts at a time.
    ///
    /// # Errors
    ///
    /// If no window starts then. The error names the nearest starts.
    pub fn window_at(&self, start: Timestamp) -> Result<WindowTimes> {
        if self.starts.at_or_after(start) == Some(start)
            && let Some(window) = self.window_from(start)
        {
            return Ok(window);
        }
        let nearest = [self.starts.before(start), self.starts.after(start)].into_iter().flatten();
        let nearest: Vec<String> = nearest.map(|start| start.to_string()).collect();
        let problem =
            format!("no window starts at {start}; the nearest starts are {}", nearest.join(" and "));
        Err(Error::Window { problem })
    }

    /// Whether the window is due: its end and the delay have passed.
    pub fn due(&self, window: WindowTimes, now: Timestamp) -> bool {
        now >= self.due_time(window)
    }

    /// Returns the time from which the window is due: its end and the delay.
    pub fn due_time(&self, window: WindowTimes) -> Timestamp {
        later(window.end, self.delay.signed_duration())
    }

    /// Returns the window with the latest start among those that are due. There is none before the first window at or
    /// after `from` of the job file is due.
    pub fn newest_due(&self, now: Timestamp) -> Option<WindowTimes> {
        self.last_due(now).filter(|window| self.from.is_none_or(|from| window.start >= from))
    }

    /// Returns the first window of a job that has `from`.
    pub fn first(&self) -> Option<WindowTimes> {
        self.from.and_then(|from| self.starts.at_or_after(from)).and_then(|start| self.window_from(start))
    }

    /// Returns the first time after `after` at which a window becomes due. A window that starts before `from` of the
    /// job file does not count.
    pub fn next_due_time(&self, after: Timestamp) -> Timestamp {
        let next = match self.last_due(after) {
            Some(window) => self.starts.after(window.start),
            None => self.starts.at_or_after(after),
        };
        let first = self.from.and_then(|from| self.starts.at_or_after(from));
        let window = next.max(first).and_then(|start| self.window_from(start));
        // Without a window, the calendar of jiff ends.
        window.map_or(Timestamp::MAX, |window| self.due_time(window))
    }

    /// Returns the time until which the documents of the window are counted again. `None` means that they never are.
    pub fn recheck_until(&self, window: WindowTimes) -> Option<Timestamp> {
        self.recheck.map(|recheck| later(window.end, recheck.signed_duration()))
    }

    /// Returns the due window with the latest start, without regard to `from`.
    fn last_due(&self, now: Timestamp) -> Option<WindowTimes> {
        let limit = now.checked_sub(self.delay.signed_duration()).ok()?;
        let mut start = self.starts.at_or_before(limit)?;
        if let Length::Windows(count) = self.length {
            // The newest due window ends with this start.
            for _ in 0..count {
                start = self.starts.before(start)?;
            }
        }
        loop {
            let window = self.window_from(start)?;
            if window.end <= limit {
                return Some(window);
            }
            start = self.starts.before(start)?;
        }
    }

    fn window_from(&self, start: Timestamp) -> Option<WindowTimes> {
        let end = match self.length {
            Length::Windows(count) => {
                let mut end = start;
                for _ in 0..count {
                    end = self.starts.after(end)?;
                }
                end
            }
            Length::Days(days) => {
                let date = self.zone().to_datetime(start).date().checked_add(days.days()).ok()?;
                date.to_zoned(self.zone().clone()).ok()?.start_of_day().ok()?.timestamp()
            }
            Length::Seconds(seconds) => start.checked_add(SignedDuration::from_secs(seconds)).ok()?,
        };
        let is_shorter = match self.length {
            Length::Windows(_) => false,
            Length::Days(days) => days * DAY < self.every.seconds(),
            Length::Seconds(seconds) => seconds < self.every.seconds(),
        };
        let end = if is_shorter { end.min(self.starts.after(start)?) } else { end };
        Some(WindowTimes { start, end })
    }
}

fn length(text: Option<&str>, every: Span) -> Result<Length> {
    let Some(text) = text else { return Ok(Length::Windows(1)) };
    let seconds = span("length", text)?.seconds();
    if seconds == 0 {
        return Err(wrong("length", text, "a duration above zero"));
    }
    if seconds / MAX_OVERLAP > every.seconds() || seconds > MAX_OVERLAP * every.seconds() {
        let expected = format!("at most {MAX_OVERLAP} times window.every ({every})");
        return Err(wrong("length", text, &expected));
    }
    Ok(if seconds % every.seconds() == 0 {
        Length::Windows(seconds / every.seconds())
    } else if seconds % DAY == 0 {
        Length::Days(seconds / DAY)
    } else {
        Length::Seconds(seconds)
    })
}

fn zone(name: Option<&str>) -> Result<TimeZone> {
    let name = name.unwrap_or(DEFAULT_ZONE);
    TimeZone::get(name).map_err(|_| {
        let known: Vec<String> = jiff::tz::db().available().map(|zone| zone.to_string()).collect();
        let nearest = elastic_client::nearest(name, known.iter().map(String::as_str));
        let hint = nearest.map(|nearest| format!("; did you mean {nearest:?}?")).unwrap_or_default();
        wrong(
            "time_zone",
            name,
            &format!("a name of the IANA time zone database, such as Europe/Berlin{hint}"),
        )
    })
}

fn span(key: &str, text: &str) -> Result<Span> {
    text.parse().map_err(|error: Error| Error::Window { problem: format!("window.{key} = {error}") })
}

fn wrong(key: &str, value: &str, expected: &str) -> Error {
    Error::Window { problem: format!("window.{key} = {value:?}: expected {expected}") }
}

/// Adds a duration, up to the last timestamp that jiff can represent.
fn later(time: Timestamp, duration: SignedDuration) -> Timestamp {
    time.saturating_add(duration).unwrap_or(Timestamp::MAX)
}

#[cfg(test)]
#[path = "window_tests.rs"]
mod tests;
