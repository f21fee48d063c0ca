//! The cursor and the id of a page's successor, from the ends of a response that is not decoded yet. Pure.
//!
//! Owns: the form of the first and the last bytes of a search response. Must not know: requests, or rows.
//!
//! What is read here is a guess. The reader compares it with the decoded page.

use serde_json::Value;

/// The most bytes of the sort values of one row. Longer ones are not searched for.
const MAX_SORT_BYTES: usize = 64 << 10;

/// Returns the sort values of the last row, if the body ends with them as servers print them:
/// `…,"sort":[7]}]}}`. Returns `None` for every other body.
pub(super) fn last_sort(body: &[u8]) -> Option<Vec<Value>> {
    const KEY: &[u8] = br#""sort":"#;
    // The ends of the hit, of both objects named "hits", and of the response.
    let body = body.strip_suffix(b"}]}}")?;
    let tail = &body[body.len().saturating_sub(MAX_SORT_BYTES)..];
    // Within a string the quotes of the key would be escaped, so the last key is no part of a sort value.
    let key = tail.windows(KEY.len()).rposition(|bytes| bytes == KEY)?;
    serde_json::from_slice(&tail[key + KEY.len()..]).ok()
}

/// Returns the id of the point in time, if the response begins with it as servers print it.
pub(super) fn pit_id(body: &[u8]) -> Option<String> {
    let id = body.strip_prefix(br#"{"pit_id":""#)?;
    let end = id.iter().position(|byte| matches!(byte, b'"' | b'\\'))?;
    if id[end] != b'"' {
        return None;
    }
    String::from_utf8(id[..end].to_vec()).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn sort_values_are_read_only_from_the_end_of_a_whole_response() {
        let body = |hit: &str| format!(r#"{{"hits":{{"hits":[{{"sort":[1]}},{{{hit}}}]}}}}"#);
        let of = |hit: &str| last_sort(body(hit).as_bytes());
        assert_eq!(of(r#""fields":{"a":[1]},"sort":[7]"#), Some(vec![json!(7)]));
        let long = i64::MAX;
        let values = format!(r#"["b\"]}}",null,1.5,{long},"\"sort\":[2]"]"#);
        let expected = vec![json!("b\"]}"), json!(null), json!(1.5), json!(long), json!("\"sort\":[2]")];
        assert_eq!(of(&format!(r#""sort":{values}"#)), Some(expected));
        for hit in [
            r#""sort":[7],"fields":{"a":[1]}"#,
            r#""_source":{"sort":[7]}"#,
            r#""sort":7"#,
            r#""sort":[7"#,
            r#""sort":[7]]"#,
            r#""sort": [7] "#,
            r#""sort":[]}"#,
            "",
        ] {
            // Spaces are as good as none.
            let expected = hit.contains(": [").then(|| vec![json!(7)]);
            assert_eq!(of(hit), expected, "{hit}");
        }
        let whole = body(r#""sort":[7]"#);
        for end in 0..whole.len() {
            assert_eq!(last_sort(&whole.as_bytes()[..end]), None, "{end}");
        }
        assert_eq!(last_sort(format!("{whole}\n").as_bytes()), None);
        assert_eq!(last_sort(br#"{"hits":{"hits":[]}}"#), None);
        let too_long = format!(r#""sort":["{}"]"#, "x".repeat(MAX_SORT_BYTES));
        assert_eq!(of(&too_long), None);
    }

    #[test]
    fn an_id_is_read_only_from_the_head() {
        assert_eq!(pit_id(br#"{"pit_id":"a=","timed_out":false}"#), Some("a=".into()));
        for body in [
            r#"{"took":1,"pit_id":"a"}"#,
            r#"{"pit_id":"a\"b"}"#,
            r#"{"pit_id":"a"#,
            r#"{"pit_id":null}"#,
            "",
        ] {
            assert_eq!(pit_id(body.as_bytes()), None, "{body}");
        }
    }
}
