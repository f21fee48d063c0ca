#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use super::*;
use datafusion::arrow::array::{ArrayRef, Int64Array, StringArray};
use datafusion::arrow::datatypes::Schema;
use datafusion::arrow::record_batch::RecordBatch;
use datafusion::arrow::util::display::array_value_to_string;
use datafusion::datasource::MemTable;
use datafusion::execution::SessionStateBuilder;
use datafusion::physical_plan::collect;
use datafusion::prelude::SessionContext;

/// Ten addresses in the form that an index returns, with `n` from 0 in their order, in two partitions. The last
/// one is null.
const ADDRESSES: [Option<&str>; 10] = [
    Some("::1"),
    Some("2.0.0.0"),
    Some("10.0.0.2"),
    Some("10.0.0.10"),
    Some("147.32.84.165"),
    Some("200.0.0.1"),
    Some("2001:db8::2"),
    Some("2001:db8::10"),
    Some("fe80::1"),
    None,
];

fn context() -> SessionContext {
    let state =
        SessionStateBuilder::new().with_default_features().with_analyzer_rule(Arc::new(AddressOrder)).build();
    let context = SessionContext::new_with_state(state);
    for function in crate::functions::functions() {
        context.register_udf(function.as_ref().clone());
    }
    let metadata = [(TYPE_KEY.to_owned(), IP_TYPE.to_owned())].into();
    let schema = Arc::new(Schema::new(vec![
        Field::new("ip", DataType::Utf8, true).with_metadata(metadata),
        Field::new("n", DataType::Int64, false),
        Field::new("text", DataType::Utf8, true),
    ]));
    let rows = |order: [usize; 5]| {
        let texts = |at: fn(usize) -> usize| {
            Arc::new(order.iter().map(|&n| ADDRESSES[at(n)]).collect::<StringArray>()) as ArrayRef
        };
        let numbers = Arc::new(order.iter().map(|&n| n as i64).collect::<Int64Array>());
        vec![RecordBatch::try_new(Arc::clone(&schema), vec![texts(|n| n), numbers, texts(|n| n)]).unwrap()]
    };
    let table = MemTable::try_new(Arc::clone(&schema), vec![rows([7, 2, 9, 0, 5]), rows([3, 8, 1, 6, 4])]);
    context.register_table("flows", Arc::new(table.unwrap())).unwrap();
    context
}

/// Runs a statement and returns its rows, with values separated by blanks. Runs its optimized plan as well,
/// because a scheduler analyzes that one, and checks that the rows are the same.
async fn run(sql: &str) -> Result<Vec<String>> {
    let context = context();
    let plan = context.state().create_logical_plan(sql).await?;
    let optimized = context.state().optimize(&plan)?;
    let mut responses = Vec::new();
    for plan in [plan, optimized] {
        let physical = context.state().create_physical_plan(&plan).await?;
        let mut rows = Vec::new();
        for batch in collect(physical, context.task_ctx()).await? {
            for row in 0..batch.num_rows() {
                let values = batch.columns().iter().map(|column| array_value_to_string(column, row).unwrap());
                rows.push(values.collect::<Vec<_>>().join(" "));
            }
        }
        responses.push(rows);
    }
    assert_eq!(responses[0], responses[1], "{sql}: the rule is not idempotent");
    Ok(responses.remove(0))
}

async fn check(sql: &str, expected: &[&str]) {
    let rows = run(sql).await.unwrap_or_else(|e| panic!("{sql}: {e}"));
    assert_eq!(rows, expected, "{sql}");
}

async fn refuse(sql: &str, expected: &str) {
    let Err(error) = run(sql).await else { panic!("{sql} is not refused") };
    let error = error.to_string();
    assert!(error.contains(expected), "{sql}: {error}");
}

#[tokio::test]
async fn comparisons_are_of_addresses_through_views_and_aliases() {
    for (predicate, count) in [
        ("ip < '10.0.0.10'", 3),
        ("ip <= '10.0.0.10'", 4),
        ("'10.0.0.10' <= ip", 6),
        ("NOT ip > '10.0.0.10'", 4),
        ("ip BETWEEN '10.0.0.0' AND '147.32.255.255'", 3),
        ("ip NOT BETWEEN '10.0.0.0' AND '147.32.255.255'", 6),
        ("ip >= '2001:DB8:0::2' AND ip < 'ffff::'", 3),
        ("ip = '2001:0DB8:0:0::2'", 1),
        ("ip <> '::FFFF:10.0.0.2'", 8),
        ("ip IN ('2001:0DB8::2', '10.0.0.2', NULL)", 2),
        ("ip IS DISTINCT FROM '::ffff:10.0.0.2'", 9),
        ("CASE ip WHEN '::ffff:10.0.0.2' THEN true ELSE false END", 1),
        ("ip < NULL", 0),
        ("ip < text", 0),
        ("ip <= text", 9),
        ("ip = (SELECT max(ip) FROM flows)", 1),
        ("ip < (SELECT min(ip) FROM flows WHERE ip > '10.0.0.2')", 3),
        ("EXISTS (SELECT 1 FROM flows AS f WHERE f.ip < flows.ip)", 8),
        ("greatest(ip, '10.0.0.10') = '10.0.0.10'", 5),
        ("CAST(ip AS VARCHAR) < '10.0.0.10'", 3),
    ] {
        for from in [
            "flows",
            "(SELECT ip, text FROM flows) AS flows",
            "(SELECT address AS ip, text FROM (SELECT ip AS address, text, n FROM flows WHERE n >= 0)) AS flows",
            "(SELECT ip, text FROM flows UNION ALL SELECT ip, text FROM flows WHERE n > 100) AS flows",
            "(SELECT ip, max(text) AS text FROM flows GROUP BY ip) AS flows",
        ] {
            check(&format!("SELECT count(*) FROM {from} WHERE {predicate}"), &[&count.to_string()]).await;
        }
    }
}

#[tokio::test]
async fn rows_are_in_the_order_of_addresses() {
    check("SELECT n FROM flows ORDER BY ip", &["0", "1", "2", "3", "4", "5", "6", "7", "8", "9"]).await;
    check("SELECT ip FROM flows ORDER BY ip DESC NULLS LAST LIMIT 2", &["fe80::1", "2001:db8::10"]).await;
    check(
        "SELECT ip, count(*) FROM flows GROUP BY ip ORDER BY ip LIMIT 3",
        &["::1 1", "2.0.0.0 1", "10.0.0.2 1"],
    )
    .await;
    check("SELECT DISTINCT ip FROM flows ORDER BY 1 LIMIT 2", &["::1", "2.0.0.0"]).await;
    check("SELECT DISTINCT ON (ip) ip, n FROM flows ORDER BY ip, n LIMIT 2", &["::1 0", "2.0.0.0 1"]).await;
    check(
        "SELECT n FROM (SELECT n, row_number() OVER (ORDER BY ip) AS at FROM flows) WHERE at - 1 <> n",
        &[],
    )
    .await;
    check(
        "SELECT first_value(n ORDER BY ip DESC NULLS LAST), array_agg(n ORDER BY ip) FROM flows WHERE n < 4",
        &["3 [0, 1, 2, 3]"],
    )
    .await;
    check(
        "SELECT a.n, b.n FROM flows AS a JOIN flows AS b ON a.ip > b.ip AND b.ip > '2001:db8::2'",
        &["8 7"],
    )
    .await;
}

#[tokio::test]
async fn least_and_greatest_are_of_addresses() {
    check("SELECT min(ip), max(ip) FROM flows", &["::1 fe80::1"]).await;
    check("SELECT max(ip) FROM flows WHERE ip < '3.0.0.0'", &["2.0.0.0"]).await;
    check("SELECT max(ip), min(n) AS low FROM flows WHERE n IS NULL", &[" "]).await;
    check(
        "SELECT n / 5, min(ip) AS low, max(ip) FILTER (WHERE n <> 8) FROM flows GROUP BY 1 \
         HAVING max(ip) >= '10.0.0.10' ORDER BY low DESC",
        &["1 200.0.0.1 2001:db8::10", "0 ::1 147.32.84.165"],
    )
    .await;
    check(
        "SELECT n, max(ip) OVER (ORDER BY n), min(ip) OVER () FROM flows ORDER BY n LIMIT 3",
        &["0 ::1 ::1", "1 2.0.0.0 ::1", "2 10.0.0.2 ::1"],
    )
    .await;
    check("SELECT DISTINCT least(ip, '10.0.0.10', text) FROM flows ORDER BY 1 DESC LIMIT 1", &["10.0.0.10"])
        .await;
    // A union with a text column is a text column.
    check("SELECT max(ip) FROM (SELECT ip FROM flows UNION ALL SELECT 'total')", &["total"]).await;
}

#[tokio::test]
async fn what_is_no_address_is_refused_and_a_network_names_cidr() {
    for predicate in
        ["ip = '10.0.0.0/8'", "ip <> '10.0.0.0/8'", "ip IN ('10.0.0.1', '10.0.0.0/8')", "'10.0.0.0/8' < ip"]
    {
        let expected = "address column \"ip\" is compared with the network \"10.0.0.0/8\": write cidr(\"ip\", \
                        '10.0.0.0/8')";
        refuse(&format!("SELECT n FROM flows WHERE {predicate}"), expected).await;
    }
    for literal in ["nothing", "010.0.0.1", "10.0.0", "10.0.0.256", "", "fe80::1%eth0"] {
        let expected = format!("address column \"ip\" is compared with \"{literal}\", which is no address");
        for predicate in ["ip = ", "ip >= ", "ip BETWEEN '10.0.0.0' AND ", "ip IS DISTINCT FROM "] {
            refuse(&format!("SELECT n FROM flows WHERE {predicate}'{literal}'"), &expected).await;
        }
    }
    refuse("SELECT n FROM (SELECT ip AS a, n FROM flows) WHERE a = 'x'", "column \"a\" is compared").await;
    refuse("SELECT n FROM flows WHERE n IN (SELECT n FROM flows WHERE ip = 'x')", "\"ip\" is compared").await;
    refuse("SELECT n FROM flows WHERE ip < ANY (SELECT ip FROM flows)", "is not supported for addresses")
        .await;
    // Text columns are compared as before.
    check("SELECT n FROM flows WHERE text = '10.0.0.0/8' OR text < '10.0.0.10' ORDER BY n", &[]).await;
}
