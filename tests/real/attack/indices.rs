//! Indices and connections that are not granted, under every name by which they may be asked for.

use super::{Ground, connections, index_plan, table};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use datafusion_elasticsearch::{EsTable, TableSpec};
use elastic_client::{Slice, SliceSource};
use serde_json::{Value, json};

/// A slice over an index, with the filter of an alias.
fn slice(index: &str, filter: Option<Value>) -> Slice {
    let source = SliceSource::Scroll;
    Slice { ordinal: 0, of: 1, index: index.into(), source, cut: None, filter }
}

pub(super) async fn read(ground: &Ground, url: &str) {
    const SELECT: &str = "SELECT note FROM t";
    let registry = connections(url);
    let own = table(&registry, "prod", "attack-own").await;
    let changed = |change: &dyn Fn(&mut TableSpec)| {
        let mut spec = own.spec().clone();
        change(&mut spec);
        EsTable::from_spec(std::sync::Arc::clone(&registry), spec)
    };
    let by_index = |index: &str| changed(&|spec| spec.index = index.to_owned());
    let by_query = |query: &Value| changed(&|spec| spec.query = query.clone());
    let lookup = json!({ "terms": { "note": { "index": "attack-secret", "id": "1", "path": "note" } } });
    let run =
        async |name: &str, table: EsTable| ground.caller(name).run(&index_plan(table, SELECT).await).await;

    ground.done("alice reads her index", &run("alice", own.clone()).await, "note-of-attack-own");
    ground.done("by a pattern", &run("alice", by_index("attack-own*")).await, "note-of-attack-own");
    let within = json!({ "terms": { "note": ["note-of-attack-own"] } });
    ground.done("by a query", &run("alice", by_query(&within)).await, "note-of-attack-own");
    let sliced = changed(&|spec| spec.open_slices = Some(vec![slice("attack-own", None)]));
    ground.done("by a slice", &run("alice", sliced).await, "note-of-attack-own");

    let queries = [
        lookup.clone(),
        json!({ "bool": { "must_not": [{ "bool": { "filter": [lookup] } }] } }),
        json!({ "more_like_this": { "fields": ["note"], "like": [{ "_index": "attack-secret", "_id": "1" }] } }),
        json!({ "term": { "_index": "attack-secret" } }),
        json!({ "wrapper": { "query": STANDARD.encode(lookup.to_string()) } }),
        json!({ "geo_shape": { "note": { "indexed_shape": { "id": "1" } } } }),
    ];
    let mut attacks = vec![
        ("nobody reads an index", "nobody", own.clone()),
        ("bob reads alice's index", "bob", own.clone()),
        ("another connection", "alice", changed(&|spec| spec.connection = "other".into())),
        ("no connection", "alice", changed(&|spec| spec.connection = "none".into())),
        (
            "another index of a slice",
            "alice",
            changed(&|spec| spec.open_slices = Some(vec![slice("attack-secret", None)])),
        ),
        (
            "a lookup in the filter of a slice",
            "alice",
            changed(&|spec| spec.open_slices = Some(vec![slice("attack-own", Some(queries[0].clone()))])),
        ),
    ];
    attacks.extend(queries.iter().map(|query| ("a query that looks up", "alice", by_query(query))));
    let wider = [
        "attack-secret",
        "attack-own,attack-secret",
        "attack-own*,attack-*",
        "attack-*",
        "*",
        "_all",
        "-attack-own,attack-secret",
        "attack-*,-attack-bob",
        "<attack-secret>",
        "attack-own%2Cattack-secret",
        "attack-own,",
        " attack-secret",
        "remote:attack-own",
    ];
    attacks.extend(wider.map(|index| (index, "alice", by_index(index))));
    for (row, name, table) in attacks {
        // Where anyone may use the cluster, every index is theirs.
        if !ground.is_open() {
            let shown = format!("{row} ({} {})", table.spec().index, table.spec().query);
            ground.refused(&shown, &run(name, table).await);
        }
    }
    if ground.is_open() {
        let outcome = run("anyone", by_index("attack-secret")).await;
        ground.done("anyone reads every index", &outcome, "note-of-attack-secret");
    }
    // Of no index, but of another part of the server.
    for index in ["..", ".", "attack-own/../_cat/indices", "attack-own/_search?", "../../_all"] {
        let outcome = run("root", by_index(index)).await;
        let gave = matches!(outcome, flowsigma_tests::caller::Outcome::Rows { .. });
        ground.expect(index, !gave, &format!("{outcome:?}"));
    }
}
