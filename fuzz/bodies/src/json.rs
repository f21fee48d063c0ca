//! JSON values made by choices.
//!
//! Owns: values of any shape over given words. Must not know what they are for.

use arbitrary::{Result, Unstructured};
use serde_json::{Map, Value, json};

/// Values at which types, formats and old spellings part.
const SCALARS: &[&str] = &[
    "null",
    "true",
    "false",
    "0",
    "-0",
    "1",
    "-1",
    "127",
    "128",
    "-129",
    "32768",
    "2147483648",
    "9223372036854775807",
    "9223372036854775808",
    "18446744073709551615",
    "18446744073709551616",
    "-9223372036854775809",
    "0.1",
    "-0.0",
    "5.0",
    "1e300",
    "3.5e38",
    "1e-400",
    "1700000000000.123456",
    "\"\"",
    "\"true\"",
    "\"now\"",
    "\"now-1h/d\"",
    "\"nowhere\"",
    "\"1\"",
    "\"-1.5\"",
    "\"+5\"",
    "\"NaN\"",
    "\"1e3\"",
    "\"2024\"",
    "\"1700000000000\"",
    "\"2024-02-29\"",
    "\"2024-02-29T12:30:00.123456789Z\"",
    "\"2024-02-29T12:30:00,5+02:00\"",
    "\"9999-12-31T23:59\"",
    "\"0000-01-01\"",
    "\"10.0.0.1\"",
    "\"::ffff:10.0.0.1\"",
    "\"fe80::1%eth0\"",
    "\"\u{e9}\u{1F600}\"",
    "\"\\ud83d\\ude00\\u0000\"",
];

/// One of `items`.
pub fn one_of<'a>(u: &mut Unstructured<'_>, items: &[&'a str]) -> Result<&'a str> {
    u.choose(items).copied()
}

/// A value that is neither list nor object.
pub fn scalar(u: &mut Unstructured<'_>) -> Result<Value> {
    Ok(match u.int_in_range(0..=3)? {
        0 => json!(u.arbitrary::<i64>()?),
        1 => json!(u.arbitrary::<&str>()?),
        _ => serde_json::from_str(one_of(u, SCALARS)?).unwrap_or(Value::Null),
    })
}

/// A value of any shape; keys are mostly of `words`.
pub fn value(u: &mut Unstructured<'_>, words: &[&str], depth: usize) -> Result<Value> {
    if depth == 0 || u.is_empty() {
        return scalar(u);
    }
    Ok(match u.int_in_range(0..=3)? {
        0 => {
            let mut items = Vec::new();
            for _ in 0..u.int_in_range(0..=3)? {
                items.push(value(u, words, depth - 1)?);
            }
            Value::Array(items)
        }
        1 => {
            let mut object = Map::new();
            for _ in 0..u.int_in_range(0..=4)? {
                object.insert(key(u, words)?, value(u, words, depth - 1)?);
            }
            Value::Object(object)
        }
        2 => json!(one_of(u, words)?),
        _ => scalar(u)?,
    })
}

/// Mostly one of `words`.
pub fn key(u: &mut Unstructured<'_>, words: &[&str]) -> Result<String> {
    if u.ratio(1, 20)? { Ok(u.arbitrary::<&str>()?.to_owned()) } else { Ok(one_of(u, words)?.to_owned()) }
}
