//! Index expressions.
//!
//! Owns: which expressions may name indices. Must not know: which indices exist.
//!
//! An index expression becomes a part of a path. The name `..` would resolve to another API, or leave the path prefix
//! of the connection. The server would read the name `_cat` as an API. Both are refused, also in a percent-encoded form
//! that a proxy between client and server might decode.

use crate::date_math::is_math;
use crate::error::Error;

/// Characters that no index, alias or pattern contains, or that have a meaning in a path.
const FORBIDDEN: &[char] = &['/', '\\', '?', '#', '"', '<', '>', '|', ' ', '{', '}'];
/// The suffixes that select a part of a data stream.
const SELECTORS: &[&str] = &["::data", "::failures", "::*"];

/// Checks that an index expression consists of names, aliases, patterns and [date
/// math](https://www.elastic.co/guide/en/elasticsearch/reference/8.8/api-conventions.html#api-date-math-index-names),
/// separated by commas.
///
/// # Errors
///
/// If a part of the expression is something else, also after percent-decoding. The error names the part.
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

/// Returns why a part of an expression cannot name an index.
fn problem(part: &str) -> Option<String> {
    let name = part.strip_prefix('-').unwrap_or(part);
    let name = SELECTORS.iter().find_map(|selector| name.strip_suffix(selector)).unwrap_or(name);
    if name.starts_with('<') {
        return (!is_date_math(name)).then(|| format!("{part:?} is not date math such as <flows-{{now/d}}>"));
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
        return Some(format!("{name:?} begins with _, which is reserved for APIs"));
    }
    let forbidden = name.chars().find(|c| c.is_control() || FORBIDDEN.contains(c))?;
    Some(format!("{name:?} contains {forbidden:?}, which is not allowed in a name"))
}

/// Returns whether a name is static text with at least one `{…}`: `<flows-{now/d}>`,
/// `<flows-{now-1M/M{yyyy.MM|+01:00}}-*>`.
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

/// Returns whether a text is `now` or a date, each with date math: `now/d`, `2026-01-01||/M`.
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
            let error = check_index(expression).unwrap_err();
            assert!(!error.is_retryable());
            let text = error.to_string();
            assert!(text.starts_with(&format!("index {expression:?} ")), "{text}");
        }
        assert_eq!(
            check_index("flows,..").unwrap_err().to_string(),
            "index \"flows,..\" is not sent to a server: \"..\" is a path, not a name; write names, aliases, \
             patterns or date math, separated by commas"
        );
    }
}
