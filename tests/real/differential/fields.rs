//! Random fields and documents, and what a read of them has to give.
//!
//! Owns: mappings, values as they are sent, and as they come back. Must not know: predicates.

use datafusion::arrow::datatypes::DataType;
use datafusion::common::utils::SingleRowListArrayBuilder;
use datafusion::scalar::ScalarValue;
use rand::Rng;
use rand::rngs::StdRng;
use rand::seq::IndexedRandom;
use serde_json::{Value, json};
use std::net::{IpAddr, Ipv6Addr};

/// One value as it is read.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Cell {
    Text(String),
    Whole(i128),
    Float(f64),
    Truth(bool),
    /// Nanoseconds since 1970.
    Time(i128),
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Kind {
    Keyword,
    /// A keyword whose normalizer is `lowercase`.
    Lower,
    Text,
    TextWithKeyword,
    /// Its keyword lacks texts longer than two characters.
    TextWithShortKeyword,
    Wildcard,
    Ip,
    Whole(&'static str, i128, i128),
    Float(&'static str),
    Scaled(f64),
    Boolean,
    Date(&'static str),
    DateNanos,
}

impl Kind {
    pub(super) fn is_float(self) -> bool {
        matches!(self, Self::Float(_) | Self::Scaled(_))
    }
}

#[derive(Clone, Debug)]
pub(super) struct Field {
    pub(super) name: String,
    pub(super) kind: Kind,
    pub(super) array: bool,
    ignore_above: Option<usize>,
    null_value: Option<(Value, Cell)>,
}

/// Types that not every server has.
#[derive(Clone, Copy, Debug)]
pub(super) struct Support {
    pub(super) wildcard: bool,
    pub(super) unsigned_long: bool,
    pub(super) scaled_float: bool,
}

/// Order by code points differs from order by UTF-16 units at U+FF5E and the emoji; U+212A and
/// U+017F fold to `k` and `s`.
const TEXTS: [&str; 34] = [
    "", "a", "A", "ab", "Ab", "aB", "abc", "abd", "abcabc", "b", "zz", "k", "K", "\u{212a}", "kelvin", "s",
    "ſ", "Sſ", "ä", "Äb", "é", "日本", "日", "～", "😀", "😀b", "a*b", "a?b", "a\\b", "a%b", "a_b", "it's",
    " a", "a\nb",
];

const ADDRESSES: [&str; 14] = [
    "10.0.0.1",
    "10.0.0.2",
    "10.0.1.0",
    "10.255.255.255",
    "11.0.0.0",
    "9.255.255.255",
    "192.168.1.1",
    "0.0.0.0",
    "255.255.255.255",
    "::1",
    "::",
    "2001:db8::1",
    "2001:0DB8:0:0:1::7",
    "::ffff:10.0.0.7",
];

const FLOATS: [f64; 18] = [
    0.0,
    -0.0,
    0.1,
    -0.1,
    0.29,
    1.0,
    1.5,
    -1.5,
    2.675,
    100.01,
    0.333_333_333_333_333_3,
    65_503.9,
    -65_504.0,
    1e-3,
    123.456,
    1234.565,
    0.07,
    -0.57,
];

const WIDE_FLOATS: [f64; 8] = [
    9_007_199_254_740_993.0,
    1e300,
    -1e300,
    f64::MIN_POSITIVE,
    5e-324,
    1.797_693_134_862_315_7e308,
    0.100_000_000_000_000_02,
    4.35e17,
];

const TIMES: [&str; 12] = [
    "1970-01-01T00:00:00.000Z",
    "1969-12-31T23:59:59.999Z",
    "2024-02-29T12:30:00.500Z",
    "2024-03-01T00:00:00.000Z",
    "2024-02-29T12:30:00.501Z",
    "1900-01-01T00:00:00.000Z",
    "0001-01-01T00:00:00.000Z",
    "9999-12-31T23:59:59.999Z",
    "1955-05-05T05:05:05.005Z",
    "2024-02-29T00:00:00.000Z",
    "2000-01-01T00:00:00.001Z",
    "1970-01-01T00:00:00.001Z",
];

const NANOS: [i128; 9] = [
    0,
    1,
    999_999,
    1_000_000,
    1_709_209_800_123_456_789,
    1_709_209_800_123_456_788,
    1_709_209_800_123_000_000,
    1_709_209_800_124_000_000,
    i64::MAX as i128,
];

const WHOLE: [(&str, i128, i128); 4] = [
    ("long", i64::MIN as i128, i64::MAX as i128),
    ("integer", i32::MIN as i128, i32::MAX as i128),
    ("short", i16::MIN as i128, i16::MAX as i128),
    ("byte", i8::MIN as i128, i8::MAX as i128),
];

/// The first few as often as all others, so that values and literals meet.
fn near<T: Copy>(rng: &mut StdRng, pool: &[T]) -> T {
    let few = rng.random_bool(0.5);
    pick(rng, if few { &pool[..4] } else { pool })
}

const UNSIGNED: Kind = Kind::Whole("unsigned_long", 0, u64::MAX as i128);

pub(super) fn pick<T: Copy>(rng: &mut StdRng, pool: &[T]) -> T {
    *pool.choose(rng).unwrap()
}

impl Field {
    /// Random but for its place, which goes through the kinds in turn.
    pub(super) fn random(rng: &mut StdRng, place: usize, support: Support) -> Self {
        let mut kinds = vec![
            Kind::Keyword,
            Kind::Keyword,
            Kind::Lower,
            Kind::Text,
            Kind::TextWithKeyword,
            Kind::TextWithShortKeyword,
            Kind::Ip,
            Kind::Float("double"),
            Kind::Float("float"),
            Kind::Float("half_float"),
            Kind::Boolean,
            Kind::Date(pick(
                rng,
                &["", "strict_date_optional_time||epoch_millis", "epoch_millis", "yyyy-MM-dd"],
            )),
            Kind::DateNanos,
        ];
        kinds.extend(WHOLE.map(|(name, least, most)| Kind::Whole(name, least, most)));
        if support.wildcard {
            kinds.push(Kind::Wildcard);
        }
        if support.scaled_float {
            kinds.push(Kind::Scaled(pick(rng, &[10.0, 100.0, 1000.0, 3.0])));
        }
        if support.unsigned_long {
            kinds.push(UNSIGNED);
        }
        let kind = kinds[place % kinds.len()];
        let keyword = matches!(kind, Kind::Keyword | Kind::Lower);
        let mut field = Self {
            name: format!("f{place}"),
            kind,
            // OpenSearch orders unsigned values as signed ones: a list says nothing by its order.
            array: kind != UNSIGNED && rng.random_bool(0.15),
            ignore_above: (keyword && rng.random_bool(0.4)).then_some(2),
            null_value: None,
        };
        let nullable =
            !matches!(kind, Kind::Text | Kind::TextWithKeyword | Kind::TextWithShortKeyword | Kind::Wildcard);
        if nullable && rng.random_bool(0.3) {
            field.null_value = field.value(rng, false).and_then(|(sent, cell)| Some((sent, cell?)));
        }
        field
    }

    pub(super) fn mapping(&self) -> Value {
        let mut mapping = match self.kind {
            Kind::Keyword => json!({ "type": "keyword" }),
            Kind::Lower => json!({ "type": "keyword", "normalizer": "lowercase" }),
            Kind::Text => json!({ "type": "text" }),
            Kind::TextWithKeyword => json!({ "type": "text", "fields": { "raw": { "type": "keyword" } } }),
            Kind::TextWithShortKeyword => {
                json!({ "type": "text", "fields": { "raw": { "type": "keyword", "ignore_above": 2 } } })
            }
            Kind::Wildcard => json!({ "type": "wildcard" }),
            Kind::Ip => json!({ "type": "ip" }),
            Kind::Whole(name, ..) | Kind::Float(name) => json!({ "type": name }),
            Kind::Scaled(factor) => json!({ "type": "scaled_float", "scaling_factor": factor }),
            Kind::Boolean => json!({ "type": "boolean" }),
            Kind::Date("") => json!({ "type": "date" }),
            Kind::Date(format) => json!({ "type": "date", "format": format }),
            Kind::DateNanos => json!({ "type": "date_nanos" }),
        };
        if let Some(limit) = self.ignore_above {
            mapping["ignore_above"] = json!(limit);
        }
        if let Some((sent, _)) = &self.null_value {
            mapping["null_value"] = sent.clone();
        }
        mapping
    }

    /// A value as it is sent and as it is read; not read over `ignore_above`. `loose` values are
    /// spelled in ways that the server coerces.
    fn value(&self, rng: &mut StdRng, loose: bool) -> Option<(Value, Option<Cell>)> {
        Some(match self.kind {
            Kind::Keyword
            | Kind::Lower
            | Kind::Text
            | Kind::TextWithKeyword
            | Kind::TextWithShortKeyword
            | Kind::Wildcard => {
                let text = near(rng, &TEXTS);
                let fits = self.ignore_above.is_none_or(|limit| text.encode_utf16().count() <= limit);
                let read = match self.kind {
                    Kind::Lower => text.to_lowercase(),
                    _ => text.to_owned(),
                };
                (json!(text), fits.then_some(Cell::Text(read)))
            }
            Kind::Ip => {
                let text = near(rng, &ADDRESSES);
                let address: IpAddr = text.parse().unwrap();
                (json!(text), Some(Cell::Text(address.to_canonical().to_string())))
            }
            Kind::Whole(name, least, most) => {
                let n = whole(rng, least, most);
                let sent = match (i64::try_from(n), loose && name != "unsigned_long") {
                    (Ok(n), true) if n.unsigned_abs() < 100 => json!(format!("{n}")),
                    (Ok(n), _) => json!(n),
                    (Err(_), _) => json!(n as u64),
                };
                (sent, Some(Cell::Whole(n)))
            }
            Kind::Float(name) => {
                let wide = name == "double" && rng.random_bool(0.4);
                let n = pick(rng, if wide { &WIDE_FLOATS[..] } else { &FLOATS[..] });
                let read = match name {
                    "half_float" => half::f16::from_f32(n as f32).into(),
                    "float" => f64::from(n as f32),
                    _ => n,
                };
                (json!(n), Some(Cell::Float(read)))
            }
            Kind::Scaled(factor) => {
                let n = near(rng, &FLOATS);
                // Java rounds halves up.
                let scaled = (n * factor + 0.5).floor();
                (json!(n), Some(Cell::Float(scaled * (1.0 / factor))))
            }
            Kind::Boolean => {
                let truth = rng.random_bool(0.5);
                let sent = if loose { json!(if truth { "true" } else { "" }) } else { json!(truth) };
                (sent, Some(Cell::Truth(truth)))
            }
            Kind::Date(format) => {
                let text = near(rng, &TIMES);
                let at = chrono::DateTime::parse_from_rfc3339(text).unwrap().timestamp_millis();
                let day = at.div_euclid(86_400_000) * 86_400_000;
                let (sent, read) = match format {
                    "yyyy-MM-dd" => (json!(text[..10]), day),
                    "epoch_millis" => (json!(at.abs()), at.abs()),
                    _ if loose && at > 10_000 => (json!(at), at),
                    _ => (json!(text), at),
                };
                (sent, Some(Cell::Time(i128::from(read) * 1_000_000)))
            }
            Kind::DateNanos => {
                let at = near(rng, &NANOS);
                (json!(nanos_text(at)), Some(Cell::Time(at)))
            }
        })
    }

    /// What a document says of this field, `None` if nothing, and the values that are read.
    pub(super) fn random_value(&self, rng: &mut StdRng, several: bool) -> (Option<Value>, Vec<Cell>) {
        let null = || self.null_value.iter().map(|(_, cell)| cell.clone()).collect();
        let loose = rng.random_bool(0.1);
        let one = |rng: &mut StdRng| self.value(rng, loose).unwrap();
        if self.array || several {
            let mut sent = Vec::new();
            let mut read = Vec::new();
            let least = if several { 2 } else { 0 };
            for _ in 0..rng.random_range(least..=least + 2) {
                let (value, cell) = one(rng);
                sent.push(value);
                read.extend(cell);
            }
            if !several && rng.random_bool(0.2) {
                return (None, vec![]);
            }
            self.order(&mut read);
            return (Some(json!(sent)), read);
        }
        match rng.random_range(0..100) {
            0..=19 => (None, vec![]),
            20..=26 => (Some(Value::Null), null()),
            27..=29 => (Some(json!([])), vec![]),
            30..=33 => {
                let (sent, cell) = one(rng);
                (Some(json!([sent])), cell.into_iter().collect())
            }
            _ => {
                let (sent, cell) = one(rng);
                (Some(sent), cell.into_iter().collect())
            }
        }
    }

    /// As doc values have them: in order, and texts once each. From `_source` as they were sent.
    fn order(&self, cells: &mut Vec<Cell>) {
        match self.kind {
            Kind::Text | Kind::TextWithKeyword | Kind::TextWithShortKeyword | Kind::Wildcard => return,
            Kind::Ip => cells.sort_by_key(|cell| match cell {
                Cell::Text(text) => match text.parse::<IpAddr>().unwrap() {
                    IpAddr::V4(v4) => v4.to_ipv6_mapped(),
                    IpAddr::V6(v6) => v6,
                },
                _ => Ipv6Addr::UNSPECIFIED,
            }),
            _ => cells.sort_by(|a, b| match (a, b) {
                (Cell::Float(a), Cell::Float(b)) => a.total_cmp(b),
                (Cell::Text(a), Cell::Text(b)) => a.cmp(b),
                (Cell::Truth(a), Cell::Truth(b)) => a.cmp(b),
                (Cell::Whole(a) | Cell::Time(a), Cell::Whole(b) | Cell::Time(b)) => a.cmp(b),
                _ => std::cmp::Ordering::Equal,
            }),
        }
        if matches!(self.kind, Kind::Keyword | Kind::Lower | Kind::Ip) {
            cells.dedup();
        }
    }

    /// A value in SQL: one that documents have, or one beside it.
    pub(super) fn literal(&self, rng: &mut StdRng) -> String {
        match self.kind {
            Kind::Ip if rng.random_bool(0.2) => {
                let odd =
                    ["::ffff:10.0.0.7", "2001:db8:0:0:1:0:0:7", "::FFFF:A00:1", "2001:0DB8::1", "ffff::"];
                quoted(pick(rng, &odd))
            }
            Kind::Whole(_, least, most) => match rng.random_range(0..10) {
                0 => pick(rng, &["0.5", "-1.5", "300.0", "1e3", "-0.0", "9007199254740993.0"]).to_owned(),
                1 => pick(rng, &["300", "-300", "70000", "9223372036854775807"]).to_owned(),
                _ => whole(rng, least, most).to_string(),
            },
            Kind::Float(_) | Kind::Scaled(_) => match rng.random_range(0..10) {
                0 => pick(rng, &["70000.0", "-70000.0", "1e300", "-1e300", "3", "-0.0"]).to_owned(),
                1 => format!("{:?}", pick(rng, &WIDE_FLOATS)),
                2..=4 => match self.value(rng, false) {
                    Some((_, Some(Cell::Float(n)))) => format!("{n:?}"),
                    _ => "0.0".to_owned(),
                },
                _ => format!("{:?}", near(rng, &FLOATS)),
            },
            Kind::Date(_) => match rng.random_range(0..10) {
                0 => quoted(&near(rng, &TIMES).replace('Z', "5Z")),
                1..=3 => {
                    format!("arrow_cast('{}', 'Timestamp(Millisecond, None)')", &near(rng, &TIMES)[..23])
                }
                _ => quoted(&near(rng, &TIMES)[..23]),
            },
            Kind::DateNanos if rng.random_bool(0.2) => quoted("1969-12-31T23:59:59.999999999"),
            Kind::DateNanos => quoted(nanos_text(near(rng, &NANOS)).trim_end_matches('Z')),
            Kind::Boolean => rng.random_bool(0.5).to_string(),
            Kind::Keyword
            | Kind::Lower
            | Kind::Text
            | Kind::TextWithKeyword
            | Kind::TextWithShortKeyword
            | Kind::Wildcard => quoted(near(rng, &TEXTS)),
            Kind::Ip => quoted(near(rng, &ADDRESSES)),
        }
    }
}

pub(super) fn random_text(rng: &mut StdRng) -> &'static str {
    near(rng, &TEXTS)
}

pub(super) fn quoted(text: &str) -> String {
    format!("'{}'", text.replace('\'', "''"))
}

fn nanos_text(at: i128) -> String {
    let time = chrono::DateTime::from_timestamp_nanos(i64::try_from(at).unwrap());
    time.to_rfc3339_opts(chrono::SecondsFormat::Nanos, true)
}

/// Ends of the type, the first integer that a double lacks, and small ones, so that values meet.
fn whole(rng: &mut StdRng, least: i128, most: i128) -> i128 {
    let edges = [least, least + 1, most, most - 1, (1 << 53) + 1, 1 << 53, i64::MAX.into()];
    let n = if rng.random_bool(0.4) { pick(rng, &edges) } else { rng.random_range(-4..=4) };
    n.clamp(least, most)
}

/// One cell as a column holds it.
pub(super) fn to_scalar(cells: &[Cell], data_type: &DataType) -> ScalarValue {
    if let DataType::List(item) = data_type {
        if cells.is_empty() {
            return ScalarValue::try_from(data_type).unwrap();
        }
        let values = cells.iter().map(|cell| to_scalar(std::slice::from_ref(cell), item.data_type()));
        let array = ScalarValue::iter_to_array(values).unwrap();
        let builder = SingleRowListArrayBuilder::new(array).with_field(item);
        return builder.build_list_scalar();
    }
    let Some(cell) = cells.first() else { return ScalarValue::try_from(data_type).unwrap() };
    let value = match cell {
        Cell::Text(text) => ScalarValue::Utf8(Some(text.clone())),
        Cell::Whole(n) => match i64::try_from(*n) {
            Ok(n) => ScalarValue::Int64(Some(n)),
            Err(_) => ScalarValue::UInt64(Some(u64::try_from(*n).unwrap())),
        },
        Cell::Float(n) => ScalarValue::Float64(Some(*n)),
        Cell::Truth(truth) => ScalarValue::Boolean(Some(*truth)),
        Cell::Time(nanos) => match data_type {
            DataType::Timestamp(datafusion::arrow::datatypes::TimeUnit::Nanosecond, _) => {
                ScalarValue::TimestampNanosecond(Some(i64::try_from(*nanos).unwrap()), None)
            }
            _ => ScalarValue::TimestampMillisecond(Some(i64::try_from(nanos / 1_000_000).unwrap()), None),
        },
    };
    value.cast_to(data_type).unwrap()
}
