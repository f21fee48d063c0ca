//! Generated flows, of which it is known which address stands out in which window.
//!
//! Owns: the flows and how they are loaded. Must not know: jobs.
//!
//! Each address sends and receives four flows, or none, unless it was planted: no other one is three standard
//! deviations from the mean.

use super::place::Found;
use elastic_client::{Connection, Method, Request};
use flowsigma_tests::bulk;
use rand::Rng;
use rand::rngs::StdRng;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::sync::Arc;

pub(super) const HOUR: i64 = 3_600_000;
/// The flows that an address sends or receives unless it stands out.
const EACH: usize = 4;
const HOSTS: usize = 60;
/// Documents of one bulk request.
const AT_ONCE: usize = 5_000;

/// Returns a time in milliseconds as output has it.
pub(super) fn time(millis: i64) -> String {
    let at = chrono::DateTime::from_timestamp_millis(millis).unwrap();
    at.format("%Y-%m-%dT%H:%M:%SZ").to_string()
}

/// Returns a time of RFC 3339 in milliseconds.
pub(super) fn millis(text: &str) -> i64 {
    chrono::DateTime::parse_from_rfc3339(text).unwrap().timestamp_millis()
}

/// Deletes indices.
pub(super) async fn delete(connection: &Connection, indices: &str) {
    let delete = Request::new(Method::Delete, format!("/{indices}"), "delete test indices")
        .with_param("ignore_unavailable", "true");
    connection.send(&delete).await.unwrap();
}

/// The settings and mappings of an index of flows.
pub(super) fn index_of_flows() -> Value {
    json!({
        "settings": { "number_of_shards": 2, "number_of_replicas": 0 },
        "mappings": { "properties": {
            "@timestamp": { "type": "date" }, "source.ip": { "type": "ip" }, "destination.ip": { "type": "ip" },
        } },
    })
}

/// An index of flows, and what was loaded into it.
pub(super) struct Flows {
    pub(super) connection: Arc<Connection>,
    pub(super) index: String,
    /// The documents of each window, by its start.
    pub(super) documents: BTreeMap<i64, u64>,
    /// What stands out.
    pub(super) planted: Vec<Found>,
    loaded: usize,
}

impl Flows {
    /// Makes an empty index.
    pub(super) async fn new(connection: &Arc<Connection>, index: &str) -> Self {
        delete(connection, index).await;
        let create = Request::new(Method::Put, format!("/{index}"), "create a test index");
        connection.send(&create.with_body(&index_of_flows())).await.unwrap();
        Self::in_index(connection, index)
    }

    /// Loads into an index or alias that exists.
    pub(super) fn in_index(connection: &Arc<Connection>, index: &str) -> Self {
        Self {
            connection: Arc::clone(connection),
            index: index.into(),
            documents: BTreeMap::new(),
            planted: Vec::new(),
            loaded: 0,
        }
    }

    /// Loads flows of source and destination, spread over the window with this start and length.
    pub(super) async fn load(&mut self, start: i64, length: i64, flows: &[(String, String)]) {
        self.load_windows(&[(start, flows)], length).await;
    }

    /// Loads the flows of several windows with the same length.
    pub(super) async fn load_windows(&mut self, windows: &[(i64, &[(String, String)])], length: i64) {
        let mut documents: Vec<(String, Value)> = Vec::new();
        for &(start, flows) in windows {
            for (i, (source, destination)) in flows.iter().enumerate() {
                let at = start + i as i64 * length / flows.len() as i64;
                let flow = json!({ "@timestamp": at, "source.ip": source, "destination.ip": destination });
                documents.push((format!("flow-{}", self.loaded + documents.len()), flow));
            }
            *self.documents.entry(start).or_default() += flows.len() as u64;
        }
        self.loaded += documents.len();
        for chunk in documents.chunks(AT_ONCE) {
            let chunk = chunk.iter().map(|(id, flow)| (id.clone(), flow));
            bulk::load(&self.connection, &self.index, chunk, bulk::Found::AtOnce).await.unwrap();
        }
    }

    /// Loads a window of flows, with a scanner, with a target, with both or with none.
    pub(super) async fn load_window(&mut self, start: i64, length: i64, planted: Planted, rng: &mut StdRng) {
        let mut flows = Vec::new();
        for host in 0..HOSTS {
            for flow in 0..EACH {
                let server = (host * EACH + flow) % HOSTS;
                flows.push((format!("10.0.0.{host}"), format!("10.2.0.{server}")));
            }
        }
        let (first, second) = (rng.random_range(0..=255), rng.random_range(0..=255));
        if planted.scanner {
            flows.extend(self.scan(start, &format!("10.9.{first}.{second}"), rng));
        }
        if planted.target {
            let (target, sources) = (format!("10.8.{first}.{second}"), rng.random_range(80..150));
            for flow in 0..sources * EACH {
                flows.push((format!("10.4.0.{}", flow % sources), target.clone()));
            }
            self.planted.push((time(start), target, "incoming".into(), (sources * EACH) as u64));
        }
        self.load(start, length, &flows).await;
    }

    /// Loads the flows of one more scanner, as documents that arrive late.
    pub(super) async fn load_late(&mut self, start: i64, length: i64, rng: &mut StdRng) {
        let scanner = format!("10.7.{}.{}", rng.random_range(0..=255), rng.random_range(0..=255));
        let flows = self.scan(start, &scanner, rng);
        self.load(start, length, &flows).await;
    }

    fn scan(&mut self, start: i64, scanner: &str, rng: &mut StdRng) -> Vec<(String, String)> {
        let targets = rng.random_range(80..150);
        self.planted.push((time(start), scanner.into(), "outgoing".into(), (targets * EACH) as u64));
        (0..targets * EACH).map(|flow| (scanner.to_owned(), format!("10.3.0.{}", flow % targets))).collect()
    }

    /// Returns what was planted, in order.
    pub(super) fn planted(&self) -> Vec<Found> {
        let mut planted = self.planted.clone();
        planted.sort();
        planted
    }
}

/// Which addresses of a window stand out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Planted {
    pub(super) scanner: bool,
    pub(super) target: bool,
}

impl Planted {
    pub(super) const NONE: Self = Self { scanner: false, target: false };
    pub(super) const SCANNER: Self = Self { scanner: true, target: false };
    pub(super) const BOTH: Self = Self { scanner: true, target: true };

    /// Both, one or none of them.
    pub(super) fn random(rng: &mut StdRng) -> Self {
        Self { scanner: rng.random_bool(0.5), target: rng.random_bool(0.3) }
    }
}
