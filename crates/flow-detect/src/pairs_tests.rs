//! Pairs of addresses, compared with pairs that these tests count in Rust.

use arrow::array::AsArray;
use arrow::compute::cast;
use arrow::datatypes::{Int64Type, TimestampMillisecondType};

use super::*;

/// Source, destination, flows, first and last time.
type Pair = (String, String, i64, i64, i64);

/// Reads rows. They panic if a column is of another type than documented.
fn read(batches: &[RecordBatch]) -> Vec<Pair> {
    let mut pairs = Vec::new();
    for batch in batches {
        let text = |name| cast(batch.column_by_name(name).unwrap(), &DataType::Utf8).unwrap();
        let (source, destination) = (text("source"), text("destination"));
        let flows = batch.column_by_name("flows").unwrap().as_primitive::<Int64Type>();
        let time = |name| batch.column_by_name(name).unwrap().as_primitive::<TimestampMillisecondType>();
        let (first, last) = (time("first"), time("last"));
        for row in 0..batch.num_rows() {
            let address = |column: &ArrayRef| column.as_string::<i32>().value(row).to_owned();
            pairs.push((
                address(&source),
                address(&destination),
                flows.value(row),
                first.value(row),
                last.value(row),
            ));
        }
    }
    pairs
}

/// Flows, each a minute after the one before, with times of type `time_type`.
fn batch(spec: &DetectSpec, flows: &[Flow<'_>], time_type: &DataType) -> RecordBatch {
    let times = (0..flows.len() as i64).map(|i| TIME + 60_000 * i);
    let times = TimestampMillisecondArray::from_iter_values(times);
    let source: StringArray = flows.iter().map(|flow| flow.0).collect();
    let destination: StringArray = flows.iter().map(|flow| flow.1).collect();
    RecordBatch::try_from_iter_with_nullable([
        (&spec.time_field, cast(&times, time_type).unwrap(), true),
        (&spec.source_field, Arc::new(source) as ArrayRef, true),
        (&spec.destination_field, Arc::new(destination) as ArrayRef, true),
    ])
    .unwrap()
}

const MILLIS: DataType = DataType::Timestamp(TimeUnit::Millisecond, None);

/// Counts the pairs of flows that [`batch`] has, in `rows`.
fn expected(flows: &[Flow<'_>], rows: std::ops::Range<usize>) -> Vec<Pair> {
    let mut pairs: BTreeMap<(&str, &str), (i64, i64, i64)> = BTreeMap::new();
    for row in rows {
        let (Some(source), Some(destination)) = flows[row] else { continue };
        let time = TIME + 60_000 * row as i64;
        let pair = pairs.entry((source, destination)).or_insert((0, time, time));
        pair.0 += 1;
        pair.2 = time;
    }
    pairs
        .into_iter()
        .map(|((source, destination), (flows, first, last))| {
            (source.to_owned(), destination.to_owned(), flows, first, last)
        })
        .collect()
}

#[tokio::test]
async fn pairs_agree_with_those_counted_here() {
    for seed in 30..33 {
        let flows = random_flows(seed, 2000);
        let flows = as_flows(&flows);
        let spec = spec("3");
        let context = context(1 + seed as usize % 4);
        register(&context, "flows", &batch(&spec, &flows, &MILLIS));
        let pairs = read(&run(&context, &pairs_sql(&spec)).await);
        assert!(pairs.iter().any(|pair| pair.2 > 1 && pair.3 < pair.4));
        assert_eq!(pairs, expected(&flows, 0..flows.len()));
    }
}

#[tokio::test]
async fn the_flows_of_pairs_are_those_of_the_counts_where_nothing_is_null() {
    let flows = random_flows(34, 2000);
    let flows: Vec<_> = as_flows(&flows).into_iter().filter(|f| f.0.is_some() && f.1.is_some()).collect();
    let spec = spec("3");
    let context = context(4);
    register(&context, "flows", &batch(&spec, &flows, &MILLIS));
    let sum = async |sql: String, column: &str| {
        let sums = run(&context, &format!("SELECT CAST(sum({column}) AS BIGINT) FROM ({sql})")).await;
        sums[0].column(0).as_primitive::<Int64Type>().value(0)
    };
    let flows = flows.len() as i64;
    assert_eq!(sum(pairs_sql(&spec), "flows").await, flows);
    assert_eq!(sum(counts_sql(&spec), "outgoing").await, flows);
    assert_eq!(sum(counts_sql(&spec), "incoming").await, flows);
}

#[tokio::test]
async fn pairs_are_of_the_window_and_the_filter() {
    let flows = random_flows(35, 500);
    let flows = as_flows(&flows);
    let window = DetectSpec {
        since: Some(TIME + 60_000 * 100),
        until: Some(TIME + 60_000 * 300),
        filter: Some("true -- as written".to_owned()),
        ..spec("3")
    };
    for time_type in [
        MILLIS,
        DataType::Timestamp(TimeUnit::Nanosecond, None),
        DataType::Timestamp(TimeUnit::Second, None),
        DataType::Timestamp(TimeUnit::Millisecond, Some("UTC".into())),
        DataType::Timestamp(TimeUnit::Microsecond, Some("+00:00".into())),
    ] {
        let context = context(2);
        register(&context, "flows", &batch(&window, &flows, &time_type));
        let pairs = read(&run(&context, &pairs_sql(&window)).await);
        assert_eq!(pairs, expected(&flows, 100..300), "{time_type}");
        let none = DetectSpec { filter: Some("false".to_owned()), ..window.clone() };
        assert_eq!(read(&run(&context, &pairs_sql(&none)).await), []);
    }
}

#[tokio::test]
async fn one_scan_reads_the_pairs() {
    let odd = DetectSpec {
        table: "Pairs \"x".to_owned(),
        time_field: "flow_time".to_owned(),
        source_field: "destination".to_owned(),
        destination_field: "source".to_owned(),
        ..spec("3")
    };
    for spec in [spec("3"), odd] {
        let context = context(4);
        register(&context, &spec.table, &batch(&spec, &golden_flows(), &MILLIS));
        let plan = context.sql(&pairs_sql(&spec)).await.unwrap().into_optimized_plan().unwrap();
        assert_eq!(plan.display_indent().to_string().matches("TableScan").count(), 1);
        let pairs = read(&run(&context, &pairs_sql(&spec)).await);
        assert_eq!(pairs, expected(&golden_flows(), 0..golden_flows().len()));
    }
}
