//! Which indices a request names.
//!
//! Owns: the expressions that may name indices, and the paths that are built of them. Must not know: what
//! is behind a name.
//!
//! A name stands in a path. One that is `..` would ask another API, and leave the path of a connection whose
//! nodes stand behind one; one that is `_cat` would be taken for an API. Both are refused, also where a proxy
//! on the way decodes once more.

use crate::date_math::is_math;
use crate::error::Error;

/// What no index, alias or pattern holds, and what a path gives a meaning.
const FORBIDDEN: &[char] = &['/', '\\', '?', '#', '"', '<', '>', '|', ' ', '{', '}'];
/// What an index of a data stream may be followed by.
const SELECTORS: &[&str] = &["::data", "::failures", "::*"];

/// Refuses an expression that is not made of names, aliases, patterns and date math, with commas between.
pub fn check_index(expression: &str) -> Result<(), Error> {
    let mut text = expression.to_owned();
    loop {
        if let Some(problem) = text.split(',').find_map(problem) {
            return Err(Error::IndexName { expression: expression.to_owned(), problem });
        }
        let decoded = percent_decode(&text);
        if decoded == text {
            return Ok(());
        }
        text = decoded;
    }
}

/// The path of an API of these indices, such as `/flows-*/_mapping`.
pub(crate) fn index_path(expression: &str, api: &str) -> Result<String, Error> {
    check_index(expression)?;
    Ok(format!("/{}/{api}", encode(expression)))
}

/// How many bytes of a path an expression takes.
pub(crate) fn path_bytes(expression: &str) -> usize {
    encode(expression).len()
}

/// Percent-encodes everything but what the servers give a meaning.
fn encode(expression: &str) -> String {
    let mut out = String::with_capacity(expression.len());
    for byte in expression.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b',' | b'*' | b'~' => {
                out.push(char::from(byte));
            }
            _ => out.push_str(&format!("%{byte:02X}")),
        }
    }
    out
}

fn percent_decode(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&first, after)) = rest.split_first() {
        let hex = after.get(..2).filter(|_| first == b'%').and_then(|hex| std::str::from_utf8(hex).ok());
        match hex.filter(|hex| !hex.starts_with('+')).and_then(|hex| u8::from_str_radix(hex, 16).ok()) {
            Some(byte) => {
                bytes.push(byte);
                rest = &after[2..];
            }
            None => {
                bytes.push(first);
                rest = after;
            }
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

/// Why one part of an expression names no index.
fn problem(part: &str) -> Option<String> {
    let name = part.strip_prefix('-').unwrap_or(part);
    let name = SELECTORS.iter().find_map(|selector| name.strip_suffix(selector)).unwrap_or(name);
    if name.starts_with('<') {
        return (!is_date_math(name)).then(|| format!("{part:?} is no date math such as <flows-{{now/d}}>"));
    }
    if let Some((cluster, name)) = name.split_once(':') {
        return plain_problem(cluster).or_else(|| match name.starts_with('<') {
            true => problem(name),
            false => plain_problem(name),
        });
    }
    plain_problem(name)
}

fn plain_problem(name: &str) -> Option<String> {
    if name.is_empty() {
        return Some("a name in it is empty".into());
    }
    if name == "." || name == ".." {
        return Some(format!("{name:?} is a path, not a name"));
    }
    if name.starts_with('_') && name != "_all" {
        return Some(format!("{name:?} begins with _, as only APIs do"));
    }
    let forbidden = name.chars().find(|c| c.is_control() || FORBIDDEN.contains(c))?;
    Some(format!("{name:?} holds {forbidden:?}, which no name may hold"))
}

/// Static text and at least one `{…}`: `<flows-{now/d}>`, `<flows-{now-1M/M{yyyy.MM|+01:00}}-*>`.
fn is_date_math(name: &str) -> bool {
    let Some(mut rest) = name.strip_prefix('<').and_then(|name| name.strip_suffix('>')) else { return false };
    let is_text = |text: &str| !text.chars().any(|c| c.is_control() || FORBIDDEN.contains(&c));
    let mut braces = 0;
    while let Some((text, after)) = rest.split_once('{') {
        let Some(end) = after.find(['{', '}']) else { return false };
        let (moment, after) = after.split_at(end);
        let after = match after.strip_prefix('{') {
            None => &after[1..],
            Some(format) => {
                let Some((format, after)) = format.split_once("}}") else { return false };
                if !is_text(&format.replacen('|', "", 1)) {
                    return false;
                }
                after
            }
        };
        if !is_text(text) || !is_moment(moment) {
            return false;
        }
        braces += 1;
        rest = after;
    }
    braces > 0 && is_text(rest)
}

/// `now/d`, or a date with math: `2026-01-01||/M`.
fn is_moment(text: &str) -> bool {
    if let Some(math) = text.strip_prefix("now") {
        return is_math(math);
    }
    let is_date = |date: &str| date.chars().all(|c| c.is_ascii_alphanumeric() || "-+:.".contains(c));
    text.split_once("||").is_some_and(|(date, math)| is_date(date) && is_math(math))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_aliases_patterns_and_date_math_are_sent_percent_encoded() {
        for (expression, path) in [
            ("flows", "/flows/_mapping"),
            ("flows-*,-flows-2020*,Alias", "/flows-*,-flows-2020*,Alias/_mapping"),
            ("_all", "/_all/_mapping"),
            ("*", "/*/_mapping"),
            (".internal,.ds-flows-000001", "/.internal,.ds-flows-000001/_mapping"),
            ("...", "/.../_mapping"),
            ("a%b", "/a%25b/_mapping"),
            ("größe", "/gr%C3%B6%C3%9Fe/_mapping"),
            ("eu:flows-*", "/eu%3Aflows-*/_mapping"),
            ("eu:<flows-{now/d}>", "/eu%3A%3Cflows-%7Bnow%2Fd%7D%3E/_mapping"),
            ("flows::failures", "/flows%3A%3Afailures/_mapping"),
            ("<flows-{now/d}>", "/%3Cflows-%7Bnow%2Fd%7D%3E/_mapping"),
            (
                "<flows-{now-1M/M{yyyy.MM|+01:00}}-*>,other",
                "/%3Cflows-%7Bnow-1M%2FM%7Byyyy.MM%7C%2B01%3A00%7D%7D-*%3E,other/_mapping",
            ),
            ("<flows-{2026-01-01||/M}>", "/%3Cflows-%7B2026-01-01%7C%7C%2FM%7D%3E/_mapping"),
        ] {
            assert_eq!(index_path(expression, "_mapping").unwrap(), path);
        }
    }

    #[test]
    fn what_would_ask_another_api_is_refused() {
        for expression in [
            "",
            ",",
            "a,",
            ",a",
            "-",
            ".",
            "..",
            "-..",
            "a,..",
            "%2e",
            "%2E%2e",
            ".%2e",
            "%252e%252e",
            "a%2C..",
            "a/b",
            "../_cat",
            "a%2fb",
            "a\\b",
            "a?q",
            "a#b",
            "a%3Fb",
            "a b",
            "a\tb",
            "a\0",
            "a%00",
            "a|b",
            "\"a\"",
            "_cat",
            "_search",
            "a,_cluster",
            "-_all_",
            "_",
            ":",
            "eu:",
            ":a",
            "eu:..",
            "..:a",
            "eu:_cat",
            "<flows",
            "<flows>",
            "<..>",
            "<../{now/d}>",
            "<a-{now/../../_cat}>",
            "<a-{now/d{../x}}>",
            "<a-{now/d}",
            "<a-{now>",
            "<a-{}>",
            "<a-{now/d}/..>",
            "<a-{now/d}>/..",
            "<a-{now/d{yyyy}>",
            "<a-{then}>",
            "a<b>",
        ] {
            let error = index_path(expression, "_mapping").unwrap_err();
            assert!(!error.is_retryable());
            let text = error.to_string();
            assert!(text.starts_with(&format!("index {expression:?} ")), "{text}");
        }
        assert_eq!(
            check_index("flows,..").unwrap_err().to_string(),
            "index \"flows,..\" is not sent to a server: \"..\" is a path, not a name; write names, aliases, \
             patterns or date math, with commas between"
        );
    }
}
