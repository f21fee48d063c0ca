use super::*;
use jiff::civil;

const ZONES: &[&str] = &[
    "Europe/Berlin",
    "America/New_York",
    "Australia/Lord_Howe",
    "Asia/Kolkata",
    "Asia/Kathmandu",
    "UTC",
    "America/Sao_Paulo",
    // Clocks went back across midnight, at 00:01.
    "America/St_Johns",
    // A day was skipped.
    "Pacific/Apia",
];

fn spec(every: &str, zone: &str) -> WindowSpec {
    WindowSpec {
        every: every.into(),
        length: None,
        delay: None,
        recheck: None,
        time_zone: Some(zone.into()),
        from: None,
    }
}

fn calendar(every: &str, zone: &str) -> Calendar {
    Calendar::try_new(&spec(every, zone)).unwrap()
}

fn with_length(every: &str, length: &str, zone: &str) -> Calendar {
    Calendar::try_new(&WindowSpec { length: Some(length.into()), ..spec(every, zone) }).unwrap()
}

fn at(text: &str) -> Timestamp {
    text.parse().unwrap()
}

/// The windows of a local day: local start and length in minutes.
#[track_caller]
fn check_day(calendar: &Calendar, day: &str, expected: &[(&str, i64)]) {
    let day: civil::Date = day.parse().unwrap();
    let start = |date: civil::Date| date.to_zoned(calendar.zone().clone()).unwrap().timestamp();
    let windows = calendar.windows(start(day), start(day.tomorrow().unwrap()));
    let found: Vec<(String, i64)> = windows
        .map(|window| {
            let local = calendar.zone().to_datetime(window.start).strftime("%H:%M").to_string();
            (local, window.start.duration_until(window.end).as_mins())
        })
        .collect();
    let found: Vec<(&str, i64)> = found.iter().map(|(local, minutes)| (&**local, *minutes)).collect();
    assert_eq!(found, expected);
}

#[test]
fn a_repeated_hour_has_its_windows_twice_and_a_missing_one_none() {
    let hourly = calendar("1h", "Europe/Berlin");
    let night = |day: &str, from: &str| {
        let windows = hourly.windows(at(from), at(&format!("{day}T03:00:00Z")));
        windows.map(|window| (window.start.to_string(), window.end.to_string())).collect::<Vec<_>>()
    };
    let hours = |day: &str, hours: &[u32]| {
        let time = |hour: &u32| format!("{day}T{hour:02}:00:00Z");
        hours.windows(2).map(|pair| (time(&pair[0]), time(&pair[1]))).collect::<Vec<_>>()
    };
    assert_eq!(night("2026-10-25", "2026-10-25T00:00:00Z"), hours("2026-10-25", &[0, 1, 2, 3]));
    assert_eq!(night("2026-03-29", "2026-03-29T00:00:00Z"), hours("2026-03-29", &[0, 1, 2, 3]));
    let day = [("00:00", 60), ("01:00", 60), ("02:00", 60), ("02:00", 60), ("03:00", 60), ("04:00", 60)];
    let all: Vec<_> = hourly.windows(at("2026-10-24T22:00:00Z"), at("2026-10-25T23:00:00Z")).collect();
    assert_eq!(all.len(), 25);
    let half_hourly = calendar("30m", "Europe/Berlin");
    assert_eq!(half_hourly.windows(at("2026-03-28T23:00:00Z"), at("2026-03-29T22:00:00Z")).count(), 46);
    for (window, (local, minutes)) in all.iter().zip(day) {
        assert_eq!(hourly.zone().to_datetime(window.start).strftime("%H:%M").to_string(), local);
        assert_eq!(window.start.duration_until(window.end).as_mins(), minutes);
    }
}

#[test]
fn a_long_window_is_longer_or_shorter_when_clocks_change() {
    let (autumn, spring) = ("2026-10-25", "2026-03-29");
    check_day(&calendar("1d", "Europe/Berlin"), autumn, &[("00:00", 25 * 60)]);
    check_day(&calendar("1d", "Europe/Berlin"), spring, &[("00:00", 23 * 60)]);
    let quarters = |first| [("00:00", first), ("06:00", 360), ("12:00", 360), ("18:00", 360)];
    check_day(&calendar("6h", "Europe/Berlin"), autumn, &quarters(7 * 60));
    check_day(&calendar("6h", "Europe/Berlin"), spring, &quarters(5 * 60));
    // 02:00 is repeated, and counts once; in spring it is missing.
    let two = calendar("2h", "Europe/Berlin");
    assert_eq!(two.windows(at("2026-10-24T22:00:00Z"), at("2026-10-25T23:00:00Z")).count(), 12);
    assert_eq!(two.window_at(at("2026-10-25T00:00:00Z")).unwrap().end, at("2026-10-25T03:00:00Z"));
    assert_eq!(two.window_at(at("2026-03-28T23:00:00Z")).unwrap().end, at("2026-03-29T02:00:00Z"));
    // Weeks begin on Monday.
    let week = calendar("1w", "Europe/Berlin").window_at(at("2026-10-18T22:00:00Z")).unwrap();
    assert_eq!(week.end, at("2026-10-25T23:00:00Z"));
}

#[test]
fn a_shift_of_half_an_hour_and_a_missing_midnight_are_on_the_calendar() {
    // At 02:00 clocks go back to 01:30.
    let howe = |every| calendar(every, "Australia/Lord_Howe");
    let starts = |calendar: &Calendar, from, until| {
        let windows = calendar.windows(at(from), at(until));
        windows
            .map(|w| calendar.zone().to_datetime(w.start).strftime("%H:%M").to_string())
            .collect::<Vec<_>>()
    };
    let autumn = ("2026-04-04T14:00:00Z", "2026-04-04T16:31:00Z");
    assert_eq!(
        starts(&howe("30m"), autumn.0, autumn.1),
        ["01:00", "01:30", "01:30", "02:00", "02:30", "03:00"]
    );
    assert_eq!(starts(&howe("1h"), autumn.0, autumn.1), ["01:00", "02:00", "03:00"]);
    assert_eq!(howe("1h").window_at(at(autumn.0)).unwrap().end, at("2026-04-04T15:30:00Z"));
    // At 02:00 clocks go forward to 02:30.
    let spring = ("2026-10-03T14:30:00Z", "2026-10-03T16:31:00Z");
    assert_eq!(starts(&howe("30m"), spring.0, spring.1), ["01:00", "01:30", "02:30", "03:00", "03:30"]);
    assert_eq!(starts(&howe("1h"), spring.0, spring.1), ["01:00", "03:00"]);
    // The day begins at 01:00.
    let paulo = |every| calendar(every, "America/Sao_Paulo");
    check_day(&paulo("1d"), "2018-11-04", &[("01:00", 23 * 60)]);
    check_day(&paulo("12h"), "2018-11-04", &[("01:00", 11 * 60), ("12:00", 12 * 60)]);
    let quarter = paulo("6h").window_at(at("2018-11-03T21:00:00Z")).unwrap();
    assert_eq!(quarter.end, at("2018-11-04T03:00:00Z"));
}

/// The instants of a span that are starts by the rule in `starts`, found minute by minute.
fn expected_starts(zone: &TimeZone, every: i64, from: Timestamp, until: Timestamp) -> Vec<Timestamp> {
    let local = |at: Timestamp| at.as_second() + i64::from(zone.to_offset(at).seconds());
    let mut seen = std::collections::HashSet::new();
    let mut starts = Vec::new();
    // Two days of lead, in which repeated wall clocks are seen.
    let mut at = from.checked_sub(SignedDuration::from_hours(48)).unwrap();
    let mut last_date = None;
    while at < until {
        let date = zone.to_datetime(at).date();
        let is_new_day = last_date.is_none_or(|last| date > last);
        let begins_week = date.weekday() == civil::Weekday::Monday;
        let clock = local(at);
        let is_multiple = if every > DAY { begins_week && clock % DAY == 0 } else { clock % every == 0 };
        // Midnight is missing: the first instant of the day stands for it.
        let opens = is_new_day && last_date.is_some() && clock % DAY != 0 && (every <= DAY || begins_week);
        if (is_multiple || opens) && (seen.insert(clock) || every <= 3600) && at >= from {
            starts.push(at);
        }
        last_date = last_date.max(Some(date));
        at += SignedDuration::from_mins(1);
    }
    starts
}

#[test]
fn the_starts_are_those_of_the_wall_clock() {
    let mut compared = 0;
    for name in ZONES {
        let zone = TimeZone::get(name).unwrap();
        let from = at("2009-01-01T00:00:00Z");
        // The transitions of some years, and a day without one.
        let transitions = zone.following(from).map(|transition| transition.timestamp());
        let mut times: Vec<_> = transitions.take_while(|time| *time < at("2030-01-01T00:00:00Z")).collect();
        times.truncate(24);
        times.push(at("2024-02-28T12:34:00Z"));
        for time in times {
            let from = time.checked_sub(SignedDuration::from_hours(30)).unwrap();
            let until = time.checked_add(SignedDuration::from_hours(30)).unwrap();
            for every in ["5m", "20m", "30m", "40m", "1h", "2h", "6h", "12h", "1d", "1w"] {
                let calendar = calendar(every, name);
                let expected = expected_starts(&zone, calendar.every().seconds(), from, until);
                let found: Vec<_> = calendar.windows(from, until).map(|window| window.start).collect();
                assert_eq!(found, expected, "{name} {every} around {time}");
                compared += found.len();
            }
        }
    }
    assert!(compared > 10_000, "{compared}");
}

#[test]
fn windows_leave_no_gap_and_do_not_overlap() {
    for name in ZONES {
        for (every, from, until) in [
            ("15m", "2018-09-01T00:00:00Z", "2019-03-01T00:00:00Z"),
            ("1h", "2009-01-01T00:07:30.5Z", "2013-01-01T00:00:00Z"),
            ("6h", "2000-06-01T00:00:00Z", "2040-01-01T00:00:00Z"),
            ("1d", "1950-01-01T00:00:00Z", "2060-01-01T00:00:00Z"),
            ("1w", "1950-01-01T00:00:00Z", "2060-01-01T00:00:00Z"),
        ] {
            let calendar = calendar(every, name);
            let (from, until) = (at(from), at(until));
            let mut last: Option<WindowTimes> = None;
            for window in calendar.windows(from, until) {
                assert!(window.start < window.end && window.start >= from && window.start < until);
                match last {
                    Some(last) => {
                        assert_eq!(last.end, window.start, "{name} {every}");
                        // Backwards is the same as forwards.
                        assert_eq!(calendar.starts.before(window.start), Some(last.start), "{name} {every}");
                    }
                    None => assert!(calendar.starts.before(window.start).unwrap() < from),
                }
                let inside = window.end.checked_sub(SignedDuration::from_nanos(1)).unwrap();
                assert_eq!(calendar.starts.at_or_before(inside), Some(window.start), "{name} {every}");
                last = Some(window);
            }
            assert!(last.unwrap().end >= until, "{name} {every}");
        }
    }
}

#[test]
fn a_length_of_its_own_overlaps_or_leaves_gaps() {
    // A multiple of every: as many windows, here the repeated hour and the one after it.
    let two = with_length("1h", "2h", "Europe/Berlin");
    assert_eq!(two.window_at(at("2026-10-25T00:00:00Z")).unwrap().end, at("2026-10-25T02:00:00Z"));
    let days = with_length("1d", "7d", "Europe/Berlin");
    assert_eq!(days.window_at(at("2026-10-22T22:00:00Z")).unwrap().end, at("2026-10-29T23:00:00Z"));
    // Whole days end with a day of the calendar, here one that begins at 01:00.
    let work = with_length("1w", "6d", "America/Sao_Paulo");
    assert_eq!(work.window_at(at("2018-10-29T03:00:00Z")).unwrap().end, at("2018-11-04T03:00:00Z"));
    // Exact time, but not past the next window.
    let half = with_length("1h", "90m", "UTC");
    assert_eq!(half.window_at(at("2026-01-01T00:00:00Z")).unwrap().end, at("2026-01-01T01:30:00Z"));
    let short = with_length("12h", "690m", "America/Sao_Paulo");
    assert_eq!(short.window_at(at("2018-11-04T03:00:00Z")).unwrap().end, at("2018-11-04T14:00:00Z"));
    let capped = with_length("1d", "1430m", "Europe/Berlin");
    assert_eq!(capped.window_at(at("2026-03-28T23:00:00Z")).unwrap().end, at("2026-03-29T22:00:00Z"));
}

#[test]
fn a_start_that_is_none_is_refused_with_the_nearest() {
    let hourly = calendar("1h", "UTC");
    assert_eq!(hourly.window_at(at("2026-01-01T01:00:00Z")).unwrap().end, at("2026-01-01T02:00:00Z"));
    for wrong in ["2026-01-01T00:30:00Z", "2026-01-01T00:00:00.000000001Z", "2026-01-01T00:59:59Z"] {
        assert_eq!(
            hourly.window_at(at(wrong)).unwrap_err().to_string(),
            format!(
                "no window starts at {wrong}; the nearest starts are 2026-01-01T00:00:00Z and 2026-01-01T01:00:00Z"
            )
        );
    }
}

#[test]
fn a_window_is_due_after_its_end_and_the_delay() {
    let spec = WindowSpec { delay: Some("10m".into()), recheck: Some("1d".into()), ..spec("1h", "UTC") };
    let calendar = Calendar::try_new(&spec).unwrap();
    let window = calendar.window_at(at("2026-01-01T00:00:00Z")).unwrap();
    let (before, due) = (at("2026-01-01T01:09:59.9Z"), at("2026-01-01T01:10:00Z"));
    assert!(!calendar.due(window, before));
    assert!(calendar.due(window, due));
    assert_eq!(calendar.newest_due(due), Some(window));
    assert_eq!(calendar.newest_due(before).unwrap().end, window.start);
    assert_eq!(calendar.next_due_time(before), due);
    assert_eq!(calendar.next_due_time(due), at("2026-01-01T02:10:00Z"));
    assert_eq!(calendar.recheck_until(window), Some(at("2026-01-02T01:00:00Z")));
    let without = Calendar::try_new(&WindowSpec { recheck: Some("0s".into()), ..spec.clone() }).unwrap();
    assert_eq!(without.recheck_until(window), None);
    assert_eq!(self::calendar("1h", "UTC").due_time(window), at("2026-01-01T01:05:00Z"));
}

#[test]
fn the_newest_due_window_is_the_last_of_all_that_are_due() {
    for (every, length, zone) in [
        ("1h", "1h", "Europe/Berlin"),
        ("1h", "24h", "Europe/Berlin"),
        ("1h", "20m", "UTC"),
        ("1h", "150m", "America/Sao_Paulo"),
        ("1d", "1d", "America/New_York"),
        ("1d", "7d", "Europe/Berlin"),
        ("1d", "1430m", "Europe/Berlin"),
        ("1w", "5d", "Europe/Berlin"),
    ] {
        let calendar = with_length(every, length, zone);
        for now in
            ["2026-03-29T12:00:00Z", "2026-10-25T01:05:00Z", "2018-11-04T03:00:00Z", "2018-02-18T09:59:00Z"]
        {
            let now = at(now);
            let from = now.checked_sub(SignedDuration::from_hours(24 * 30)).unwrap();
            let all: Vec<_> = calendar.windows(from, now).collect();
            let newest = all.iter().rfind(|window| calendar.due(**window, now)).copied();
            assert_eq!(calendar.newest_due(now), newest, "{every} {length} {zone} {now}");
            let later = now.checked_add(SignedDuration::from_hours(24 * 30)).unwrap();
            let next =
                calendar.windows(from, later).map(|window| calendar.due_time(window)).find(|due| *due > now);
            assert_eq!(Some(calendar.next_due_time(now)), next, "{every} {length} {zone} {now}");
        }
    }
}

#[test]
fn no_window_before_the_first_is_due() {
    let spec = WindowSpec { from: Some("2026-01-01T00:30:00+00:00".into()), ..spec("1h", "UTC") };
    let calendar = Calendar::try_new(&spec).unwrap();
    assert_eq!(calendar.first().unwrap().start, at("2026-01-01T01:00:00Z"));
    assert_eq!(calendar.newest_due(at("2026-01-01T02:04:59Z")), None);
    assert_eq!(calendar.newest_due(at("2026-01-01T02:05:00Z")), calendar.first());
    assert_eq!(calendar.next_due_time(at("2025-06-01T00:00:00Z")), at("2026-01-01T02:05:00Z"));
    assert_eq!(calendar.next_due_time(at("2026-01-01T02:05:00Z")), at("2026-01-01T03:05:00Z"));
    // A backfill may name an earlier one.
    assert_eq!(calendar.windows(at("2025-12-31T00:00:00Z"), at("2026-01-01T00:00:00Z")).count(), 24);
}

#[test]
fn the_ends_of_time_are_no_panic() {
    for every in ["1h", "1w"] {
        let calendar = calendar(every, "Europe/Berlin");
        assert_eq!(calendar.newest_due(Timestamp::MIN), None);
        assert!(calendar.newest_due(Timestamp::MAX).is_some());
        assert_eq!(calendar.next_due_time(Timestamp::MAX), Timestamp::MAX);
        assert_eq!(calendar.windows(Timestamp::MAX, Timestamp::MAX).count(), 0);
        assert!(calendar.windows(Timestamp::MIN, Timestamp::MAX).next().is_some());
        assert!(calendar.window_at(Timestamp::MIN).is_err());
    }
}

#[test]
fn a_wrong_key_is_refused_with_its_value() {
    let base = || spec("1h", "UTC");
    let text = |value: &str| Some(value.to_owned());
    let every = "expected a duration that divides a day, such as 5m, 15m, 1h or 6h, or 1d, or 1w";
    for (spec, problem) in [
        (spec("7m", "UTC"), format!("window.every = \"7m\": {every}")),
        (spec("2d", "UTC"), format!("window.every = \"2d\": {every}")),
        (spec("0s", "UTC"), format!("window.every = \"0s\": {every}")),
        (
            spec("hour", "UTC"),
            "window.every = \"hour\" is not a duration: use a whole number and a unit, such as 90s, 5m, 1h, 1d or 1w"
                .into(),
        ),
        (
            spec("1h", "Europe/Berln"),
            "window.time_zone = \"Europe/Berln\": expected a name of the IANA time zone database, such as \
             Europe/Berlin; did you mean \"Europe/Berlin\"?"
                .into(),
        ),
        (
            WindowSpec { length: text("0s"), ..base() },
            "window.length = \"0s\": expected a duration above zero".into(),
        ),
        (
            WindowSpec { length: text("1001h"), ..base() },
            "window.length = \"1001h\": expected at most 1000 times window.every (1h)".into(),
        ),
        (
            WindowSpec { recheck: text("5m"), ..base() },
            "window.recheck = \"5m\": expected more than window.delay (5m), because a window is run only then".into(),
        ),
        (
            WindowSpec { delay: text("-5m"), ..base() },
            "window.delay = \"-5m\" is not a duration: use a whole number and a unit, such as 90s, 5m, 1h, 1d or 1w"
                .into(),
        ),
        (
            WindowSpec { from: text("2026-01-01"), ..base() },
            "window.from = \"2026-01-01\": expected a time in RFC 3339, such as 2026-01-01T00:00:00Z".into(),
        ),
    ] {
        assert_eq!(Calendar::try_new(&spec).unwrap_err().to_string(), problem);
    }
}

#[test]
fn time_zones_need_no_database_of_the_system() {
    let bundled = jiff::tz::TimeZoneDatabase::bundled();
    for name in ZONES {
        assert!(bundled.get(name).is_ok(), "{name}");
    }
}
