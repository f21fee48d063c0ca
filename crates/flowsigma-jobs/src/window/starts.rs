//! The starts of windows on the calendar of a time zone.
//!
//! Owns: which instants are starts. Must not know: how long a window is, or when it is run.
//!
//! A start is an instant whose local wall clock is a multiple of `every` since local midnight, or since the midnight of
//! a Monday for weeks. Between two transitions of the zone the offset is constant, so that starts are found by
//! arithmetic. Two rules cover the transitions:
//! - Clocks go back: the repeated wall clock has its starts twice if `every` is at most one hour, else only once.
//! - Clocks go forward: the missing wall clock has no starts. If midnight is missing, as on some days in
//!   America/Sao_Paulo, the first instant of the day is a start.

use jiff::Timestamp;
use jiff::tz::{AmbiguousOffset, TimeZone};

const HOUR: i64 = 3600;
const DAY: i64 = 86_400;
const WEEK: i64 = 7 * DAY;
/// 1970-01-05, the first Monday since the epoch, in seconds of the local clock.
const MONDAY: i64 = 4 * DAY;

/// The starts of windows: a set of instants without a first and a last.
#[derive(Clone, Debug)]
pub(super) struct Starts {
    zone: TimeZone,
    /// In seconds: a divisor of a day, a day or a week.
    every: i64,
}

impl Starts {
    /// Returns the starts of a zone, or `None` if `every`, in seconds, neither divides a day nor is a week.
    pub(super) fn try_new(zone: TimeZone, every: i64) -> Option<Self> {
        let fits = every == WEEK || (every > 0 && DAY % every == 0);
        fits.then_some(Self { zone, every })
    }

    /// Returns the time zone.
    pub(super) fn zone(&self) -> &TimeZone {
        &self.zone
    }

    /// Returns the first start at or after a time. There is none close to the last timestamp that jiff can represent.
    pub(super) fn at_or_after(&self, time: Timestamp) -> Option<Timestamp> {
        let mut at = time.as_second();
        if time.subsec_nanosecond() > 0 {
            at = at.checked_add(1)?;
        }
        loop {
            let now = Timestamp::from_second(at).ok()?;
            if self.opens_day(now) {
                return Some(now);
            }
            let candidate = at.checked_add((self.anchor() - self.local(now)).rem_euclid(self.every))?;
            let transition =
                self.zone.following(now).next().map(|transition| transition.timestamp().as_second());
            if let Some(transition) = transition
                && candidate >= transition
            {
                at = transition;
                continue;
            }
            let start = Timestamp::from_second(candidate).ok()?;
            if !self.is_repeated(start) {
                return Some(start);
            }
            at = candidate.checked_add(1)?;
        }
    }

    /// Returns the last start at or before a time. There is none close to the first timestamp that jiff can represent.
    pub(super) fn at_or_before(&self, time: Timestamp) -> Option<Timestamp> {
        // `as_second` rounds towards the epoch.
        let mut at = time.as_second() - i64::from(time.subsec_nanosecond() < 0);
        loop {
            let now = Timestamp::from_second(at).ok()?;
            let candidate = at.checked_sub((self.local(now) - self.anchor()).rem_euclid(self.every))?;
            let after = Timestamp::from_second(at.checked_add(1)?).ok()?;
            let transition = self.zone.preceding(after).next().map(|transition| transition.timestamp());
            if let Some(transition) = transition
                && candidate < transition.as_second()
            {
                if self.opens_day(transition) {
                    return Some(transition);
                }
                at = transition.as_second().checked_sub(1)?;
                continue;
            }
            let start = Timestamp::from_second(candidate).ok()?;
            if !self.is_repeated(start) {
                return Some(start);
            }
            at = candidate.checked_sub(1)?;
        }
    }

    /// Returns the first start after a time.
    pub(super) fn after(&self, time: Timestamp) -> Option<Timestamp> {
        self.at_or_after(Timestamp::from_nanosecond(time.as_nanosecond() + 1).ok()?)
    }

    /// Returns the last start before a time.
    pub(super) fn before(&self, time: Timestamp) -> Option<Timestamp> {
        self.at_or_before(Timestamp::from_nanosecond(time.as_nanosecond() - 1).ok()?)
    }

    /// Returns the wall clock at an instant: the seconds since 1970-01-01T00:00:00 of the local calendar.
    fn local(&self, at: Timestamp) -> i64 {
        at.as_second() + i64::from(self.zone.to_offset(at).seconds())
    }

    /// Returns a wall clock at which a window starts.
    fn anchor(&self) -> i64 {
        if self.every == WEEK { MONDAY } else { 0 }
    }

    /// Whether the wall clock of this instant was there before, and counts only once.
    fn is_repeated(&self, at: Timestamp) -> bool {
        if self.every <= HOUR {
            return false;
        }
        let offset = self.zone.to_offset(at);
        match self.zone.to_ambiguous_timestamp(offset.to_datetime(at)).offset() {
            AmbiguousOffset::Fold { after, .. } => offset == after,
            AmbiguousOffset::Unambiguous { .. } | AmbiguousOffset::Gap { .. } => false,
        }
    }

    /// Whether clocks go forward at this instant and skip the midnight that a day begins with, or a week if windows are
    /// weeks.
    fn opens_day(&self, at: Timestamp) -> bool {
        let Ok(earlier) = Timestamp::from_second(at.as_second() - 1) else { return false };
        let (skipped, shown) = (self.local(earlier) + 1, self.local(at));
        let period = self.every.max(DAY);
        let midnight = skipped + (self.anchor() - skipped).rem_euclid(period);
        midnight < shown
    }
}
