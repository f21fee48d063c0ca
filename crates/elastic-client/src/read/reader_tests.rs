//! Reads of a point in time from a socket that sends prepared pages.

#[path = "sort_values_tests.rs"]
mod sort_values;

use super::super::FieldsRequest;
use super::*;
use crate::config::ConnectionConfig;
use crate::ignored::IgnoredValues;
use crate::read_options::{PageRows, ReadOptions};
use crate::slices::Tiebreaker;
use serde_json::json;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::num::NonZeroU32;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

const ROWS: u64 = 10;
/// The body of an error of the server.
const BROKEN: &str = r#"{"error":{"type":"null_pointer_exception","reason":"no"},"status":500}"#;
/// The body of a refusal.
const REFUSED: &str = r#"{"error":{"type":"illegal_argument_exception","reason":"no"},"status":400}"#;
/// Stands for a body of a terabyte, of which only the length and the beginning are sent.
const LARGE: &str = "large";
/// Longer than any test needs, so that a test fails instead of waiting forever.
const PATIENCE: Duration = Duration::from_secs(20);

/// Builds the body of a response to the search with this body.
type Respond = fn(&Value) -> String;

/// Starts a server for searches. Returns its URL, and the body of each search when it has arrived.
fn server(respond: Respond) -> (String, Receiver<Value>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let (sender, asked) = channel();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let sender = sender.clone();
            std::thread::spawn(move || serve(stream.unwrap(), respond, &sender));
        }
    });
    (url, asked)
}

/// Serves the requests of one HTTP connection until it is closed.
fn serve(mut stream: TcpStream, respond: Respond, asked: &Sender<Value>) {
    let mut reader = BufReader::new(stream.try_clone().unwrap());
    loop {
        let mut length = 0;
        loop {
            let mut line = String::new();
            if reader.read_line(&mut line).unwrap_or(0) == 0 {
                return;
            }
            let line = line.trim().to_ascii_lowercase();
            if let Some(value) = line.strip_prefix("content-length:") {
                length = value.trim().parse().unwrap();
            }
            if line.is_empty() {
                break;
            }
        }
        let mut body = vec![0; length];
        reader.read_exact(&mut body).unwrap();
        // A request without a body is none for rows.
        let search = serde_json::from_slice(&body).unwrap_or_default();
        let body = respond(&search);
        let _ = asked.send(search);
        let status = match body.as_str() {
            REFUSED => "400 Bad Request",
            BROKEN => "500 Internal Server Error",
            _ => "200 OK",
        };
        let (length, body) = match body.as_str() {
            LARGE => (1 << 40, " ".repeat(1 << 16)),
            _ => (body.len(), body),
        };
        let head = format!(
            "HTTP/1.1 {status}\r\ncontent-type: application/json\r\ncontent-length: {length}\r\n\r\n"
        );
        if stream.write_all((head + &body).as_bytes()).is_err() {
            return;
        }
    }
}

/// Returns the page of rows 1 to [`ROWS`] that a search asks for, with `tail` in place of the body's end.
fn page(search: &Value, id: &str, tail: &str) -> String {
    let after = search["search_after"][0].as_u64().unwrap_or(0);
    let size = search["size"].as_u64().unwrap();
    let hits: Vec<_> = (after + 1..=ROWS.min(after + size))
        .map(|row| format!(r#"{{"fields":{{"n":[{row}]}},"sort":[{row}]}}"#))
        .collect();
    let total = if search["track_total_hits"] == true {
        format!(r#""total":{{"value":{ROWS},"relation":"eq"}},"#)
    } else {
        String::new()
    };
    format!(
        r#"{{"pit_id":"{id}","timed_out":false,"_shards":{{"total":1,"failed":0}},"hits":{{{total}"hits":[{}]{tail}"#,
        hits.join(",")
    )
}

fn good(search: &Value) -> String {
    page(search, "p", "}}")
}

/// Decodes the rows of a page, after a wait.
struct Rows<W>(W);

impl<W: Fn(&[u64]) + Send + Sync> DecodePage for Rows<W> {
    type Rows = Vec<u64>;

    fn decode(&self, _: usize, body: &[u8]) -> Result<(Envelope, Vec<u64>), DecodeError> {
        let body: Value = serde_json::from_slice(body)?;
        let hits = body["hits"]["hits"].as_array().ok_or("no hits")?;
        let rows: Vec<u64> = hits.iter().filter_map(|hit| hit["fields"]["n"][0].as_u64()).collect();
        (self.0)(&rows);
        let envelope = Envelope {
            complete: true,
            shards_total: Some(1),
            total: body["hits"]["total"]["value"].as_u64(),
            pit_id: body["pit_id"].as_str().map(str::to_owned),
            hits: hits.len(),
            last_sort: hits.last().and_then(|hit| hit["sort"].as_array().cloned()),
            ..Envelope::default()
        };
        Ok((envelope, rows))
    }

    fn join(&self, _: Vec<Vec<u64>>) -> Result<Vec<u64>, DecodeError> {
        Err("one part only".into())
    }
}

fn reader<W>(url: &str, limit: Option<u32>, wait: W) -> SliceReader<Rows<W>>
where
    W: Fn(&[u64]) + Send + Sync,
{
    let connection = Connection::try_new("test", &ConnectionConfig::from_url(url).unwrap()).unwrap();
    let slice = Slice {
        ordinal: 0,
        of: 1,
        index: "flows".into(),
        source: SliceSource::Pit { id: "p".into(), tiebreaker: Tiebreaker::ShardDoc },
        cut: None,
        filter: None,
    };
    let options = PageOptions {
        query: json!({ "match_all": {} }),
        fields: vec![FieldsRequest { doc_values: vec![("n".into(), None)], ..FieldsRequest::default() }],
        read: ReadOptions { page_size: PageRows::try_new(3).unwrap(), ..ReadOptions::default() },
        limit: limit.and_then(NonZeroU32::new),
        ignored: None,
        order: Vec::new(),
    };
    SliceReader::new(Arc::new(connection), slice, options, Rows(wait), Arc::default())
}

/// Returns the pages of a read.
async fn read<W: Fn(&[u64]) + Send + Sync>(
    reader: &mut SliceReader<Rows<W>>,
) -> Result<Vec<Vec<u64>>, Error> {
    let mut pages = Vec::new();
    while let Some(rows) = reader.next_page().await? {
        pages.push(rows);
    }
    Ok(pages)
}

/// Without requests ahead, the decoder of the second page would wait for a request that is sent after it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_next_page_is_requested_before_this_one_is_decoded() {
    let (url, asked) = server(good);
    let asked = Mutex::new(asked);
    let waited = move |rows: &[u64]| {
        let asked = asked.lock().unwrap_or_else(PoisonError::into_inner);
        // The page itself, then its successor. The first page does not know the total, and the last has no successor.
        match rows.first() {
            Some(1) | Some(4) => drop(asked.recv_timeout(PATIENCE).unwrap()),
            _ => {}
        }
        if rows.first() == Some(&4) {
            let next = asked.recv_timeout(PATIENCE).expect("the next page is requested");
            assert_eq!(next["search_after"], json!([6]));
        }
    };
    // On a thread of the runtime, whose own tasks wait until it yields.
    let mut reader = reader(&url, None, waited);
    let pages = tokio::spawn(async move { read(&mut reader).await }).await.unwrap().unwrap();
    assert_eq!(pages, [vec![1, 2, 3], vec![4, 5, 6], vec![7, 8, 9], vec![10]]);
}

#[tokio::test]
async fn only_a_page_that_has_rows_and_is_needed_is_requested_ahead() {
    let body = good(&json!({ "search_after": [3], "size": 3 })).replace(r#""p""#, r#""newest""#);
    let last_row = r#"{"fields":{"n":[6]},"sort":[6]}"#;
    let other_order = body.replace(last_row, r#"{"sort":[6],"fields":{"n":[6]}}"#);
    let large = body.replacen('{', &format!("{{{}", " ".repeat(2 * TARGET_BYTES)), 1);
    for (total, limit, body, ahead) in [
        (Some(ROWS), None, &body, true),
        (Some(7), None, &body, true),
        (Some(6), None, &body, false),
        (None, None, &body, false),
        (Some(ROWS), Some(7), &body, true),
        (Some(ROWS), Some(6), &body, false),
        (Some(ROWS), None, &other_order, false),
        (Some(ROWS), None, &large, false),
    ] {
        let mut reader = reader("http://127.0.0.1:1", limit, |_| ());
        (reader.total, reader.read, reader.asked) = (total, 3, 3);
        let response = Response { body: body.clone().into(), elastic_product: false, retries: 0 };
        let form = Arc::clone(&reader.form);
        reader.ask_ahead(&form, std::slice::from_ref(&response));
        let searches: Option<Vec<Value>> = reader.ahead.as_ref().map(|requests| {
            requests.iter().map(|r| serde_json::from_slice(r.body.as_ref().unwrap()).unwrap()).collect()
        });
        assert_eq!(searches.is_some(), ahead, "total {total:?}, limit {limit:?}");
        assert_eq!(matches!(reader.state, State::Fetching(_)), ahead);
        for search in searches.iter().flatten() {
            assert_eq!((&search["search_after"], &search["pit"]["id"]), (&json!([6]), &json!("newest")));
            assert_eq!(search["size"], json!(limit.map_or(3, |limit| limit - 6)));
        }
    }
}

/// The end of a body may look like the last row without being it. Then the decoded page decides.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_request_ahead_with_another_cursor_or_id_is_discarded() {
    let other_cursor: Respond = |search| page(search, "p", r#"},"x":{"x":[{"sort":[99]}]}}"#);
    let other_id: Respond =
        |search| page(search, "wrong", "}}").replacen(r#""timed_out""#, r#""pit_id":"p","timed_out""#, 1);
    for (respond, trusted) in [(other_cursor, false), (other_id, false), (good, true)] {
        let (url, asked) = server(respond);
        let mut reader = reader(&url, None, |_| ());
        let pages = read(&mut reader).await.unwrap();
        assert_eq!(pages.concat(), (1..=ROWS).collect::<Vec<_>>());
        assert_eq!(reader.looks_ahead, trusted);
        let right = |search: &Value| search["pit"]["id"] == "p" && search["search_after"] != json!([99]);
        assert_eq!(asked.try_iter().filter(right).count(), 4);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_page_that_is_refused_ends_the_read_with_its_request_ahead() {
    let short: Respond = |search| match search["search_after"][0].as_u64() {
        Some(3) => page(&json!({ "search_after": [4], "size": 2, "track_total_hits": false }), "p", "}}"),
        _ => good(search),
    };
    let (url, _asked) = server(short);
    let mut reader = reader(&url, None, |_| ());
    assert_eq!(reader.next_page().await.unwrap(), Some(vec![1, 2, 3]));
    let error = reader.next_page().await.unwrap_err();
    assert!(error.to_string().contains("5 rows read of 10"), "{error}");
    // Not the end, which a caller that overlooks an error would take for it.
    let error = reader.next_page().await.unwrap_err();
    assert!(error.to_string().contains("stopped before its end"), "{error}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_read_that_fails_before_its_first_page_stays_failed() {
    // All documents have dropped values.
    let (url, asked) = server(good);
    let SliceReader { connection, slice, form, .. } = &reader(&url, None, |_: &[u64]| ());
    let ignored = IgnoredValues { fields: vec!["n".into()], query: json!({ "match_all": {} }) };
    let options = PageOptions { ignored: Some(ignored), ..form.options.clone() };
    let (connection, slice) = (Arc::clone(connection), slice.clone());
    let mut reader = SliceReader::new(connection, slice, options, Rows(|_: &[u64]| ()), Arc::default());
    let error = reader.next_page().await.unwrap_err();
    assert!(error.to_string().contains("10 documents have values of \"n\""), "{error}");
    let error = reader.next_page().await.unwrap_err();
    assert!(error.to_string().contains("stopped before its end"), "{error}");
    assert_eq!(asked.try_iter().count(), 1);
}
