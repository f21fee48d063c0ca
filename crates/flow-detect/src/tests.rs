//! The statement on plain DataFusion, compared with numbers that these tests compute in Rust.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::array::{ArrayRef, Int32Array, Int64Array, RecordBatch, StringArray, TimestampMillisecondArray};
use arrow::datatypes::{DataType, TimeUnit};
use datafusion::datasource::MemTable;
use datafusion::prelude::{SessionConfig, SessionContext};

use crate::*;

#[path = "pairs_tests.rs"]
mod pairs;
#[path = "rest_tests.rs"]
mod rest;

const TIME: i64 = 1_700_000_000_000;

type Flow<'a> = (Option<&'a str>, Option<&'a str>);

pub(crate) fn spec(sigma: &str) -> DetectSpec {
    DetectSpec {
        table: "flows".to_owned(),
        time_field: "@timestamp".to_owned(),
        source_field: "netflow.ipv4_src_addr".to_owned(),
        destination_field: "netflow.ipv4_dst_addr".to_owned(),
        since: None,
        until: None,
        filter: None,
        sigma: sigma.parse().unwrap(),
    }
}

fn context(partitions: usize) -> SessionContext {
    // Small batches, so that partial sums meet in more than one order.
    let config = SessionConfig::new().with_target_partitions(partitions).with_batch_size(64);
    SessionContext::new_with_config(config)
}

/// A table of `batch` rows spread over several partitions of several batches.
fn register(context: &SessionContext, name: &str, batch: &RecordBatch) {
    let step = batch.num_rows().div_ceil(12).max(1);
    let mut partitions = vec![Vec::new(); 4];
    for (i, start) in (0..batch.num_rows()).step_by(step).enumerate() {
        partitions[i % 4].push(batch.slice(start, step.min(batch.num_rows() - start)));
    }
    let table = MemTable::try_new(batch.schema(), partitions).unwrap();
    context.register_table(format!("\"{}\"", name.replace('"', "\"\"")), Arc::new(table)).unwrap();
}

fn flow_batch(spec: &DetectSpec, flows: &[Flow<'_>]) -> RecordBatch {
    let time = TimestampMillisecondArray::from(vec![TIME; flows.len()]);
    let source: StringArray = flows.iter().map(|flow| flow.0).collect();
    let destination: StringArray = flows.iter().map(|flow| flow.1).collect();
    RecordBatch::try_from_iter_with_nullable([
        (&spec.time_field, Arc::new(time) as ArrayRef, false),
        (&spec.source_field, Arc::new(source) as ArrayRef, true),
        (&spec.destination_field, Arc::new(destination) as ArrayRef, true),
    ])
    .unwrap()
}

async fn run(context: &SessionContext, sql: &str) -> Vec<RecordBatch> {
    context.sql(sql).await.unwrap().collect().await.unwrap()
}

async fn detect(spec: &DetectSpec, flows: &[Flow<'_>]) -> Detection {
    let context = context(4);
    register(&context, &spec.table, &flow_batch(spec, flows));
    read_detection(&run(&context, &plan_sql(spec)).await).unwrap()
}

fn text(batches: &[RecordBatch]) -> String {
    arrow::util::pretty::pretty_format_batches(batches).unwrap().to_string()
}

/// One flow from `a` to a destination of its own, `count` times.
fn flows_from<'a>(counts: &[(&'a str, usize)]) -> Vec<Flow<'a>> {
    counts.iter().flat_map(|(address, count)| std::iter::repeat_n((Some(*address), None), *count)).collect()
}

const GOLDEN: [(&str, &str, usize); 13] = [
    ("10.52.1.0", "20.52.101.0", 7),
    ("10.52.1.1", "20.52.101.1", 8),
    ("10.52.1.2", "20.52.101.2", 9),
    ("10.52.1.3", "20.52.101.3", 13),
    ("10.52.1.4", "20.52.101.4", 13),
    ("10.52.1.5", "20.52.101.5", 7),
    ("10.52.1.6", "20.52.101.6", 7),
    ("10.52.1.7", "20.52.101.7", 9),
    ("10.52.1.8", "20.52.101.8", 12),
    ("10.52.1.9", "20.52.101.9", 13),
    ("20.54.0.162", "10.54.0.162", 1253),
    ("20.54.0.172", "10.54.0.172", 73),
    ("20.54.0.182", "10.54.0.182", 6),
];

fn golden_flows() -> Vec<Flow<'static>> {
    let mut flows = Vec::new();
    for (source, destination, count) in GOLDEN {
        flows.extend(std::iter::repeat_n((Some(source), Some(destination)), count));
    }
    assert_eq!(flows.len(), 1430);
    flows
}

fn assert_golden(detection: &Detection) {
    for column in [&detection.statistics.outgoing, &detection.statistics.incoming] {
        assert_eq!(column.count, 26);
        assert_eq!(column.mean, Some(55.0));
        assert!((column.stddev.unwrap() - 240.011858681).abs() < 1e-9, "{column:?}");
        assert_eq!((column.max, column.min), (Some(1253), Some(0)));
    }
    let found: Vec<_> = detection
        .findings
        .iter()
        .map(|f| (f.address.as_str(), f.direction, f.outgoing, f.incoming))
        .collect();
    assert_eq!(
        found,
        [("20.54.0.162", Direction::Outgoing, 1253, 0), ("10.54.0.162", Direction::Incoming, 0, 1253)]
    );
}

#[tokio::test]
async fn golden_numbers() {
    let detection = detect(&spec("3"), &golden_flows()).await;
    assert_golden(&detection);
    let json = serde_json::to_value(&detection).unwrap();
    assert_eq!(json["findings"][0]["direction"], "outgoing");
    assert_eq!(json["findings"][1]["direction"], "incoming");
    assert_eq!(json["statistics"]["outgoing"]["mean"], 55.0);
}

#[tokio::test]
async fn twenty_runs_are_bit_identical() {
    let flows = random_flows(7, 5000);
    let spec = spec("2");
    let mut responses = Vec::new();
    for run_number in 0..20 {
        let context = context(1 + run_number % 8);
        register(&context, &spec.table, &flow_batch(&spec, &as_flows(&flows)));
        let batches = run(&context, &plan_sql(&spec)).await;
        let detection = read_detection(&batches).unwrap();
        let rows = arrow::compute::concat_batches(&batches[0].schema(), &batches).unwrap();
        responses.push((rows, serde_json::to_string(&detection).unwrap()));
    }
    assert!(responses.iter().all(|response| response == &responses[0]));
}

/// A small linear congruential generator, which draws the same flows from the same seed on every machine.
struct Random(u64);

impl Random {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        (self.0 >> 33) % bound
    }
}

type OwnedFlow = (Option<String>, Option<String>);

/// Some addresses only send, some only receive, some are null, and a few have many more flows.
fn random_flows(seed: u64, count: usize) -> Vec<OwnedFlow> {
    let mut random = Random(seed);
    let mut flows = Vec::new();
    for _ in 0..count {
        let mut address = |offset: u64| match random.below(20) {
            0 => None,
            1..5 => Some(format!("10.0.{offset}.1")),
            _ => Some(format!("10.0.0.{}", offset + random.below(120))),
        };
        flows.push((address(0), address(60)));
    }
    flows
}

fn as_flows(flows: &[OwnedFlow]) -> Vec<Flow<'_>> {
    flows.iter().map(|(source, destination)| (source.as_deref(), destination.as_deref())).collect()
}

type Counts<'a> = BTreeMap<&'a str, [i128; 2]>;

fn count_flows<'a>(flows: &[Flow<'a>]) -> Counts<'a> {
    let mut counts = Counts::new();
    for (source, destination) in flows {
        for (direction, address) in [source, destination].into_iter().enumerate() {
            if let Some(address) = address {
                counts.entry(*address).or_default()[direction] += 1;
            }
        }
    }
    counts
}

/// Decides from counts in `i128`, without SQL. Sigma is num/den.
fn assert_detection(detection: &Detection, counts: &Counts<'_>, num: i128, den: i128) {
    let n = counts.len() as i128;
    let mut expected = Vec::new();
    for direction in [0, 1] {
        let column: Vec<i128> = counts.values().map(|both| both[direction]).collect();
        let sum: i128 = column.iter().sum();
        let squares: i128 = column.iter().map(|x| x * x).sum();
        let variance = n * squares - sum * sum;
        let shown = [&detection.statistics.outgoing, &detection.statistics.incoming][direction];
        assert_eq!(shown.count as i128, n);
        assert_eq!(shown.max.map(i128::from), column.iter().max().copied());
        assert_eq!(shown.min.map(i128::from), column.iter().min().copied());
        let mean = sum as f64 / n as f64;
        let stddev = (variance as f64).sqrt() / n as f64;
        assert!((shown.mean.unwrap() - mean).abs() <= 1e-12 * mean.max(1.0));
        assert!((shown.stddev.unwrap() - stddev).abs() <= 1e-12 * stddev.max(1.0));
        for (address, both) in counts {
            let deviation = n * both[direction] - sum;
            if both[direction] > 0
                && deviation > 0
                && den * den * deviation * deviation > num * num * variance
            {
                expected.push(((*address).to_owned(), direction, both[0], both[1]));
            }
        }
    }
    let mut found: Vec<_> = detection
        .findings
        .iter()
        .map(|f| (f.address.clone(), f.direction as usize, f.outgoing as i128, f.incoming as i128))
        .collect();
    found.sort();
    expected.sort();
    assert_eq!(found, expected);
    let ordered = detection.findings.is_sorted_by(|a, b| {
        (a.direction, -a.z, &a.address).partial_cmp(&(b.direction, -b.z, &b.address)).unwrap().is_lt()
    });
    assert!(ordered, "{:?}", detection.findings);
}

#[tokio::test]
async fn agrees_with_integers_computed_here() {
    let mut found = 0;
    for seed in 0..6 {
        let flows = random_flows(seed, 2000 + 500 * seed as usize);
        let flows = as_flows(&flows);
        for (sigma, num, den) in
            [("3", 3, 1), ("2.5", 5, 2), ("0.1", 1, 10), ("1.000001", 1_000_001, 1_000_000)]
        {
            let detection = detect(&spec(sigma), &flows).await;
            assert_detection(&detection, &count_flows(&flows), num, den);
            found += detection.findings.len();
        }
    }
    assert!(found > 20, "the data must have findings: {found}");
}

#[tokio::test]
async fn the_join_agrees_with_the_statement() {
    for seed in 10..16 {
        let flows = random_flows(seed, 3000);
        let flows = as_flows(&flows);
        for table in ["flows", "outgoing"] {
            let spec = DetectSpec { table: table.to_owned(), ..spec("3") };
            let context = context(1 + seed as usize % 5);
            register(&context, table, &flow_batch(&spec, &flows));
            let joined = text(&run(&context, &counts_by_join_sql(&spec)).await);
            let merged = text(&run(&context, &counts_sql(&spec)).await);
            assert_eq!(joined, merged);
            assert_eq!(joined.lines().count(), count_flows(&flows).len() + 4);
        }
    }
}

#[tokio::test]
async fn half_a_sigma_decides() {
    // n = 9, S = 28, Q = 408, variance n²σ² = 2888, deviation of "a" 9·20 − 28 = 152: 2.828 σ.
    let mut counts: Vec<_> = ["b", "c", "d", "e", "f", "g", "h", "i"].map(|address| (address, 1)).to_vec();
    counts.push(("a", 20));
    let flows = flows_from(&counts);
    let found = detect(&spec("2.5"), &flows).await.findings;
    assert_eq!(found.len(), 1);
    assert_eq!(found[0].address, "a");
    assert!((found[0].z - 8f64.sqrt()).abs() < 1e-12);
    assert!(detect(&spec("3"), &flows).await.findings.is_empty());
}

/// One address with flows and others without are as far apart as counts can be.
#[tokio::test]
async fn where_no_count_can_stand_out_that_is_said() {
    let others = ["b", "c", "d", "e", "f", "g", "h", "i", "j", "k"].map(|address| (address, 1));
    for (few, warnings) in [(9, 1), (10, 0)] {
        let counts = [&[("a", 1_000)], &others[..few]].concat();
        let detection = detect(&spec("3"), &flows_from(&counts)).await;
        let said = detection.warnings("3".parse().unwrap());
        // No address receives flows, so the other direction has no spread.
        assert_eq!(said.len(), 1, "{said:?}");
        assert_eq!(said[0].code(), ["no_spread", "too_few_addresses"][warnings]);
        assert_eq!(detection.findings.len(), 1 - warnings);
    }
}

#[tokio::test]
async fn a_tie_is_not_a_finding() {
    // n = 10, nine addresses with 1 and one with 11: S = 20, Q = 130, n·Q − S² = 900,
    // n·11 − S = 90 = 3 · √900 exactly.
    let mut counts: Vec<_> =
        ["b", "c", "d", "e", "f", "g", "h", "i", "j"].map(|address| (address, 1)).to_vec();
    counts.push(("a", 11));
    let flows = flows_from(&counts);
    assert!(detect(&spec("3"), &flows).await.findings.is_empty());
    assert!(detect(&spec("3.000001"), &flows).await.findings.is_empty());
    assert_eq!(detect(&spec("2.999999"), &flows).await.findings.len(), 1);
}

/// Runs the decision over counts that are too large to count row by row.
async fn decide(counts: &[(String, i64, i64)], sigma: &str) -> Detection {
    let context = context(4);
    register_counts(&context, "huge", counts);
    let sql =
        format!("WITH counts AS (SELECT * FROM huge), {}", crate::sql::decision_sql(sigma.parse().unwrap()));
    read_detection(&run(&context, &sql).await).unwrap()
}

fn register_counts(context: &SessionContext, name: &str, counts: &[(String, i64, i64)]) {
    let addresses: StringArray = counts.iter().map(|row| Some(row.0.as_str())).collect();
    let outgoing: Int64Array = counts.iter().map(|row| Some(row.1)).collect();
    let incoming: Int64Array = counts.iter().map(|row| Some(row.2)).collect();
    let batch = RecordBatch::try_from_iter([
        ("address", Arc::new(addresses) as ArrayRef),
        ("outgoing", Arc::new(outgoing) as ArrayRef),
        ("incoming", Arc::new(incoming) as ArrayRef),
    ])
    .unwrap();
    register(context, name, &batch);
}

#[tokio::test]
async fn the_greatest_counts_do_not_wrap() {
    // 1,000 of the greatest count on one side: sums of squares far beyond 128 bits.
    let mut counts: Vec<_> = (0..1000).map(|i| (format!("a{i:04}"), i64::MAX, 1)).collect();
    counts.push(("quiet".to_owned(), 1, i64::MAX));
    for sigma in ["3", "0.000001", "30.999999"] {
        let detection = decide(&counts, sigma).await;
        assert_eq!(detection.statistics.outgoing.max, Some(i64::MAX as u64));
        let incoming: Vec<_> =
            detection.findings.iter().filter(|f| f.direction == Direction::Incoming).collect();
        assert_eq!(incoming.len(), 1, "sigma {sigma}");
        assert_eq!(incoming[0].address, "quiet");
        // One against m equal ones lies exactly √m away.
        assert!((incoming[0].z - 1000f64.sqrt()).abs() < 1e-9, "{}", incoming[0].z);
        let outgoing = detection.findings.len() - 1;
        assert_eq!(outgoing, if sigma == "0.000001" { 1000 } else { 0 });
    }
    assert!(decide(&counts, "31.622777").await.findings.is_empty());
    assert!(decide(&counts, "1000").await.findings.is_empty());
}

#[tokio::test]
async fn one_flow_beside_a_huge_tie_decides() {
    // Four with 0, four with 2 and one with 4: n·4 − S = 24 = 2 · √144 exactly. Then all of it times
    // 10¹⁷, where a double no longer tells one flow from none.
    let unit = 100_000_000_000_000_000;
    let mut counts = vec![("a".to_owned(), 4 * unit, 1)];
    for i in 0..8 {
        counts.push((format!("b{i}"), 2 * unit * (i % 2), 1));
    }
    assert_eq!(decide(&counts, "2").await.findings, []);
    counts[0].1 += 1;
    assert_eq!(decide(&counts, "2").await.findings.len(), 1);
    counts[0].1 -= 2;
    assert_eq!(decide(&counts, "2").await.findings, []);
}

#[tokio::test]
async fn the_engine_refuses_what_is_too_big() {
    // The proof in `sql` depends on this: a product that does not fit is an error, not another number.
    let context = context(1);
    let squared = "SELECT x * x * x * x * x FROM (SELECT CAST(column1 AS DECIMAL(76, 0)) AS x FROM (VALUES (9223372036854775807)))";
    let error = context.sql(squared).await.unwrap().collect().await.unwrap_err().to_string();
    assert!(error.to_lowercase().contains("overflow"), "{error}");
}

#[tokio::test]
async fn no_rows() {
    let none = ColumnStatistics { count: 0, mean: None, stddev: None, max: None, min: None };
    for flows in [&[][..], &[(None, None)][..]] {
        let detection = detect(&spec("3"), flows).await;
        assert_eq!(detection.findings, []);
        assert_eq!(detection.statistics, Statistics { outgoing: none.clone(), incoming: none.clone() });
    }
    assert_eq!(read_detection(&[]).unwrap().statistics.outgoing, none);
}

#[tokio::test]
async fn one_address() {
    let detection = detect(&spec("0.000001"), &[(Some("a"), Some("a")), (Some("a"), None)]).await;
    assert_eq!(detection.findings, []);
    let expected = |count| ColumnStatistics {
        count: 1,
        mean: Some(count as f64),
        stddev: Some(0.0),
        max: Some(count),
        min: Some(count),
    };
    assert_eq!(detection.statistics, Statistics { outgoing: expected(2), incoming: expected(1) });
}

#[tokio::test]
async fn null_addresses_are_not_counted() {
    let mut flows = golden_flows();
    flows.extend(std::iter::repeat_n((None, None), 500));
    assert_golden(&detect(&spec("3"), &flows).await);
}

#[tokio::test]
async fn odd_names_are_quoted() {
    for table in ["Fl\"ows -- x", "outgoing", "incoming", "counts", "totals", "decided", "a.b"] {
        let spec = DetectSpec {
            table: table.to_owned(),
            time_field: "@time\"stamp".to_owned(),
            source_field: "a\"\"b; DROP".to_owned(),
            destination_field: "incoming".to_owned(),
            since: Some(TIME),
            until: Some(TIME + 1),
            filter: None,
            sigma: "3".parse().unwrap(),
        };
        assert_golden(&detect(&spec, &golden_flows()).await);
    }
    let spec =
        DetectSpec { source_field: "address".to_owned(), destination_field: "n".to_owned(), ..spec("3") };
    assert_golden(&detect(&spec, &golden_flows()).await);
}

#[tokio::test]
async fn integers_are_addresses_too() {
    let spec = spec("3");
    let context = context(2);
    let batch = RecordBatch::try_from_iter([
        (&spec.source_field, Arc::new(Int32Array::from(vec![7, 7, 8])) as ArrayRef),
        (&spec.destination_field, Arc::new(StringArray::from(vec!["8", "8", "7"])) as ArrayRef),
    ])
    .unwrap();
    register(&context, "flows", &batch);
    let counts = text(&run(&context, &counts_sql(&spec)).await);
    assert!(counts.contains("| 7       | 2        | 1        |"), "{counts}");
    assert!(counts.contains("| 8       | 1        | 2        |"), "{counts}");
}

#[tokio::test]
async fn the_window_is_half_open_and_leaves_the_column_alone() {
    let spec = DetectSpec { since: Some(TIME), until: Some(TIME + 1000), ..spec("3") };
    let times = [TIME - 1, TIME, TIME + 999, TIME + 1000];
    for (unit, zone) in [
        (TimeUnit::Millisecond, None),
        (TimeUnit::Millisecond, Some("UTC")),
        (TimeUnit::Millisecond, Some("+00")),
        (TimeUnit::Millisecond, Some("+00:00")),
        (TimeUnit::Microsecond, None),
        (TimeUnit::Nanosecond, None),
        (TimeUnit::Nanosecond, Some("UTC")),
    ] {
        let data_type = DataType::Timestamp(unit, zone.map(Arc::from));
        let millis = TimestampMillisecondArray::from(times.to_vec());
        let time = arrow::compute::cast(&millis, &data_type).unwrap();
        let address = Arc::new(StringArray::from(vec!["before", "first", "last", "after"])) as ArrayRef;
        let batch = RecordBatch::try_from_iter([
            (&spec.time_field, time),
            (&spec.source_field, Arc::clone(&address)),
            (&spec.destination_field, address),
        ])
        .unwrap();
        validate(&batch.schema(), &spec).unwrap();
        let context = context(2);
        register(&context, "flows", &batch);
        let counts = text(&run(&context, &counts_sql(&spec)).await);
        let found = ["before", "first", "last", "after"].map(|address| counts.contains(address));
        assert_eq!(found, [false, true, true, false], "{data_type}\n{counts}");
        let plan = text(&run(&context, &format!("EXPLAIN {}", counts_sql(&spec))).await);
        assert!(!plan.contains("CAST(flows.@timestamp"), "{data_type}\n{plan}");
        assert!(!plan.contains("CAST(@timestamp"), "{data_type}\n{plan}");
        assert!(!plan.contains("arrow_cast"), "{data_type}\n{plan}");
    }
}

#[tokio::test]
async fn the_table_is_scanned_once() {
    let spec = DetectSpec { since: Some(TIME), until: Some(TIME + 1), ..spec("3") };
    let context = context(4);
    register(&context, "flows", &flow_batch(&spec, &golden_flows()));
    for (sql, expected) in [(plan_sql(&spec), 1), (counts_sql(&spec), 1), (counts_by_join_sql(&spec), 2)] {
        let plan = context.sql(&sql).await.unwrap().into_optimized_plan().unwrap();
        let scans = plan.display_indent().to_string().matches("TableScan: flows").count();
        assert_eq!(scans, expected, "{}", plan.display_indent());
    }
}

#[test]
fn an_answer_of_another_statement_is_refused() {
    let batch = RecordBatch::try_from_iter([("address", Arc::new(StringArray::from(vec!["a"])) as ArrayRef)])
        .unwrap();
    let error = read_detection(&[batch]).unwrap_err().to_string();
    assert_eq!(error, r#"result column "n": it is missing"#);
}

/// A task that gathers all rows holds all of them in memory. Only the rows that stand out may be gathered.
#[tokio::test]
async fn nothing_gathers_the_addresses() {
    let spec = spec("3");
    let context = context(4);
    register(&context, "flows", &flow_batch(&spec, &golden_flows()));
    let plan = context.sql(&plan_sql(&spec)).await.unwrap().create_physical_plan().await.unwrap();
    let shown = datafusion::physical_plan::displayable(plan.as_ref()).indent(false).to_string();
    let (gathered, spread) = shown.split_once("FilterExec").unwrap();
    assert!(gathered.starts_with("SortPreservingMergeExec"), "{shown}");
    for gathering in ["CoalescePartitions", "SortPreservingMerge", " WindowAggExec", "JoinExec"] {
        assert!(!spread.contains(gathering), "{gathering} in\n{shown}");
    }
    assert!(spread.contains("BoundedWindowAggExec"), "{shown}");
}

#[test]
fn the_statement_as_written() {
    let spec = DetectSpec { since: Some(TIME), until: Some(TIME + 3_600_000), ..spec("2.5") };
    let sql = plan_sql(&spec);
    assert!(sql.contains("more than 2.5 standard deviations"), "{sql}");
    assert!(sql.contains("k² = 25/4."), "{sql}");
    assert!(sql.contains(r#"FROM "flows""#), "{sql}");
}
