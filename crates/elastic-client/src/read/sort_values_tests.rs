//! Reads of a slice whose later pages are read by sort values.

use super::*;
use std::collections::{BTreeMap, BTreeSet};

/// Decodes the numbers of a page from the part of a hit that has them. 8 is an error if it is a sort value, with the
/// hit's `_id` if there is one.
struct Numbers {
    by_sort: bool,
    refuses_8: bool,
}

impl DecodePage for Numbers {
    type Rows = Vec<u64>;

    fn decode(&self, _: usize, body: &[u8]) -> Result<(Envelope, Vec<u64>), DecodeError> {
        let (mut envelope, rows) = Rows(|_: &[u64]| ()).decode(0, body)?;
        if !self.by_sort {
            return Ok((envelope, rows));
        }
        let body: Value = serde_json::from_slice(body)?;
        let hits = body["hits"]["hits"].as_array().ok_or("no hits")?;
        if let Some(hit) = hits.iter().find(|hit| self.refuses_8 && hit["sort"][1] == "8") {
            return Err(format!("document {} has 8", hit["_id"]).into());
        }
        let rows: Option<Vec<u64>> = hits.iter().map(|hit| hit["sort"][1].as_str()?.parse().ok()).collect();
        envelope.last_sort.iter_mut().for_each(|sort| sort.truncate(1));
        Ok((envelope, rows.ok_or("a hit without its sort values")?))
    }

    fn join(&self, _: Vec<Vec<u64>>) -> Result<Vec<u64>, DecodeError> {
        Err("one part only".into())
    }

    fn sortable(&self) -> BTreeMap<String, String> {
        BTreeMap::from([("n".into(), "keyword".into())])
    }

    fn by_sort(&self, sorted: &BTreeSet<String>) -> Option<(Vec<FieldsRequest>, Self)> {
        assert_eq!(sorted, &BTreeSet::from(["n".into()]));
        let sort_values = vec![("n".into(), "keyword".into())];
        Some((
            vec![FieldsRequest { sort_values, ..FieldsRequest::default() }],
            Self { by_sort: true, ..*self },
        ))
    }
}

/// Responds to a search for rows by doc values or by sort values, to the one for the proof with `values`, and to the
/// request for the type of the field.
fn respond(search: &Value, values: u64) -> String {
    if search.is_null() {
        return r#"{"fields":{"n":{"keyword":{"type":"keyword"}}}}"#.into();
    }
    if search["size"] == 0 {
        let counts =
            format!(r#""aggregations":{{"v0":{{"value":{values}}},"n0":{{"doc_count":4}}}},"timed_out""#);
        return page(&json!({ "size": 0, "track_total_hits": true }), "p", "}}")
            .replace(r#""timed_out""#, &counts);
    }
    let plain = page(search, "p", "}}");
    match search["sort"].as_array().map_or(0, Vec::len) {
        1 => plain,
        _ => {
            let mut body: Value = serde_json::from_str(&plain).unwrap();
            for hit in body["hits"]["hits"].as_array_mut().unwrap() {
                let value = hit["sort"][0].to_string();
                *hit = json!({ "sort": [hit["sort"][0], value] });
            }
            body.to_string()
        }
    }
}

/// Returns the rows of a read, and the searches for its pages. The proof is awaited before the third page.
async fn rows(respond: Respond, change: impl FnOnce(&mut PageOptions)) -> (Vec<u64>, Vec<Value>) {
    let (rows, pages) = read_by(Numbers { by_sort: false, refuses_8: false }, respond, change).await;
    (rows.unwrap(), pages)
}

async fn read_by(
    decoder: Numbers,
    respond: Respond,
    change: impl FnOnce(&mut PageOptions),
) -> (Result<Vec<u64>, Error>, Vec<Value>) {
    let (url, asked) = server(respond);
    let SliceReader { connection, slice, form, .. } = &reader(&url, None, |_: &[u64]| ());
    let mut options = form.options.clone();
    change(&mut options);
    let (connection, slice) = (Arc::clone(connection), slice.clone());
    let mut reader = SliceReader::new(connection, slice, options, decoder, Arc::default());
    let mut rows = Ok(Vec::new());
    loop {
        match (reader.next_page().await, &mut rows) {
            (Ok(Some(page)), Ok(rows)) => rows.extend(page),
            (Ok(_), _) => break,
            (Err(error), _) => {
                rows = Err(error);
                break;
            }
        }
        while matches!(&reader.proof, Proof::Asked(task) if !task.is_finished()) {
            tokio::task::yield_now().await;
        }
    }
    (rows, asked.try_iter().filter(|search| search["size"].as_u64().is_some_and(|size| size > 0)).collect())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn pages_after_the_proof_are_read_by_sort_values() {
    let (rows, pages) = rows(|search| respond(search, ROWS - 4), |_| ()).await;
    assert_eq!(rows, (1..=ROWS).collect::<Vec<_>>());
    let key = json!({ "n": { "order": "asc", "missing": "_last", "unmapped_type": "keyword" } });
    let by_sort: Vec<_> =
        pages.iter().map(|page| page["sort"].as_array().is_some_and(|sort| sort.contains(&key))).collect();
    // The second page was requested together with the proof.
    assert_eq!(by_sort, [false, false, true, true]);
    assert_eq!(pages[1]["search_after"], json!([3]));
    assert_eq!(pages[2]["search_after"], json!([6, null]));
    assert_eq!(pages[3]["search_after"], json!([9, null]));
    assert!(pages[1].get("docvalue_fields").is_some() && pages[2].get("docvalue_fields").is_none());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_a_proof_or_a_gain_all_pages_are_read_by_doc_values() {
    let proved: Respond = |search| respond(search, ROWS - 4);
    let several: Respond = |search| respond(search, ROWS - 3);
    let other_documents: Respond = |search| match search["size"] == 0 {
        true => respond(search, ROWS - 4)
            .replace(&format!(r#""value":{ROWS},"relation""#), r#""value":9,"relation""#),
        false => respond(search, 0),
    };
    let failed: Respond = |search| match search["size"] == 0 {
        true => respond(search, ROWS - 4).replace(r#""failed":0"#, r#""failed":1"#),
        false => respond(search, 0),
    };
    let unchanged = |_: &mut PageOptions| ();
    let limited = |options: &mut PageOptions| options.limit = NonZeroU32::new(9);
    let other_type: Respond = |search| match search.is_null() {
        true => r#"{"fields":{"n":{"keyword":{},"ip":{}}}}"#.into(),
        false => respond(search, ROWS - 4),
    };
    for (respond, change, expected) in [
        (other_type, &unchanged as &dyn Fn(&mut PageOptions), ROWS),
        (several, &unchanged as &dyn Fn(&mut PageOptions), ROWS),
        (other_documents, &unchanged, ROWS),
        (failed, &unchanged, ROWS),
        (proved, &limited, 9),
    ] {
        let (rows, pages) = rows(respond, change).await;
        assert_eq!(rows, (1..=expected).collect::<Vec<_>>());
        assert!(pages.iter().all(|page| page["sort"] == json!(["_shard_doc"])), "{pages:?}");
    }
}

/// Answers a search by sort values with an error, as a server might that does not know such a cursor.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_refuses_sort_values_is_read_by_doc_values() {
    fn refuse(search: &Value, refusal: &str) -> String {
        match search["sort"].as_array().map_or(0, Vec::len) {
            2 => refusal.into(),
            _ => respond(search, ROWS - 4),
        }
    }
    let refusals: [Respond; 2] = [|search| refuse(search, REFUSED), |search| refuse(search, BROKEN)];
    for refuses in refusals {
        let (rows, pages) = rows(refuses, |_| ()).await;
        assert_eq!(rows, (1..=ROWS).collect::<Vec<_>>());
        let by_sort: Vec<_> =
            pages.iter().map(|page| page["sort"].as_array().map_or(0, Vec::len) == 2).collect();
        assert_eq!(by_sort, [false, false, true, false, false]);
    }
}

/// The first page by sort values is too large with three rows.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_page_of_sort_values_that_is_too_large_is_requested_with_fewer_rows() {
    let (rows, pages) = rows(
        |search| match search["sort"].as_array().map_or(0, Vec::len) == 2 && search["size"] == 3 {
            true => LARGE.into(),
            false => respond(search, ROWS - 4),
        },
        |_| (),
    )
    .await;
    assert_eq!(rows, (1..=ROWS).collect::<Vec<_>>());
    let by_sort = |page: &&Value| page["sort"].as_array().map_or(0, Vec::len) == 2;
    let sizes: Vec<_> =
        pages.iter().filter(by_sort).map(|page| (&page["search_after"][0], &page["size"])).collect();
    assert_eq!(sizes[..2], [(&json!(6), &json!(3)), (&json!(6), &json!(1))], "{pages:?}");
}

/// Pages have no `_id`, so the page is requested once more.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_error_in_a_sort_value_names_the_document() {
    let with_ids: Respond = |search| {
        let mut body: Value = serde_json::from_str(&respond(search, ROWS - 4)).unwrap();
        if let (Some(hits), false) =
            (body["hits"]["hits"].as_array_mut(), search["stored_fields"] == "_none_")
        {
            hits.iter_mut().for_each(|hit| hit["_id"] = json!(format!("id-{}", hit["sort"][0])));
        }
        body.to_string()
    };
    let (rows, _) = read_by(Numbers { by_sort: false, refuses_8: true }, with_ids, |_| ()).await;
    let error = rows.unwrap_err().to_string();
    assert!(error.ends_with(r#"document "id-8" has 8"#), "{error}");
}
