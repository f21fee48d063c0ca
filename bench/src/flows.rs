//! The flows of a test index: seedable, and alike on every server.
//!
//! Owns: the content of each document by its number. Must not know: indices, requests, or servers.
//!
//! A document depends on the seed and its own number alone. So the same index results from any number of bulk requests
//! in any order.

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use serde::Serialize;
use std::net::Ipv4Addr;

/// The first instant of the flows, 2026-01-01T06:00:00Z, in milliseconds.
pub(crate) const BEGIN: u64 = 1_767_247_200_000;
/// How long the flows last, in milliseconds.
pub(crate) const LENGTH: u64 = 6 * 3_600_000;

/// The first address of sources, 10.0.0.0, and of destinations, 20.0.0.0.
const SOURCES: u32 = 10 << 24;
const DESTINATIONS: u32 = 20 << 24;
/// Of 1,000 documents, how many a scanner sends, and how many reach a target.
const SCANS: u32 = 20;
const HITS: u32 = 20;
const SCANNERS: u32 = 3;
const TARGETS: u32 = 2;
/// A prime above 2^31, which is coprime to every smaller number of addresses.
const STEP: u64 = 2_654_435_761;

/// How addresses are distributed.
#[derive(Clone, Debug)]
pub(crate) enum Addresses {
    /// Few addresses have most flows, by Zipf's law with the exponent 1. Scanners and targets are planted.
    Zipf { sources: Zipf, destinations: Zipf },
    /// This many sources with as many flows each, and as many destinations by chance.
    Uniform(u32),
}

/// Zipf's law with the exponent 1 over ranks from 0.
#[derive(Clone, Debug)]
pub(crate) struct Zipf {
    cumulative: Vec<f64>,
}

impl Zipf {
    pub(crate) fn new(ranks: u32) -> Self {
        let mut sum = 0.0;
        let cumulative = (1..=ranks).map(|rank| {
            sum += 1.0 / f64::from(rank);
            sum
        });
        Self { cumulative: cumulative.collect() }
    }

    fn draw(&self, random: &mut StdRng) -> u32 {
        let total = self.cumulative.last().copied().unwrap_or(1.0);
        let point = random.random_range(0.0..total);
        self.cumulative.partition_point(|sum| *sum <= point) as u32
    }
}

/// A flow with the fields of the notebook's index.
#[derive(Serialize)]
pub(crate) struct Flow {
    #[serde(rename = "@timestamp")]
    timestamp: u64,
    #[serde(rename = "@version")]
    version: &'static str,
    src_addr_space: &'static str,
    dst_addr_space: &'static str,
    netflow: Netflow,
    host: Named,
    agent: Agent,
    event: Event,
    tags: &'static str,
}

#[derive(Serialize)]
struct Netflow {
    ipv4_src_addr: Ipv4Addr,
    ipv4_dst_addr: Ipv4Addr,
    l4_src_port: u16,
    l4_dst_port: u16,
    protocol: u8,
    tcp_flags: u8,
    src_tos: u8,
    in_bytes: u64,
    in_pkts: u64,
    input_snmp: u16,
    output_snmp: u16,
    src_mask: u8,
    dst_mask: u8,
    src_as: u32,
    dst_as: u32,
    first_switched: u64,
    last_switched: u64,
    flow_seq_num: u64,
}

#[derive(Serialize)]
struct Named {
    name: &'static str,
}

#[derive(Serialize)]
struct Agent {
    name: &'static str,
    version: &'static str,
}

#[derive(Serialize)]
struct Event {
    dataset: &'static str,
    category: &'static str,
}

/// A flow with two fields at the top level, for readers without object columns.
#[derive(Serialize)]
pub(crate) struct FlatFlow {
    src: Ipv4Addr,
    dst: Ipv4Addr,
}

const SERVICES: [(u16, u8); 6] = [(443, 6), (80, 6), (53, 17), (22, 6), (123, 17), (3389, 6)];
const HOSTS: [&str; 4] =
    ["collector-01.example", "collector-02.example", "collector-03.example", "collector-04.example"];

/// All flows of one seed.
#[derive(Clone, Debug)]
pub(crate) struct Flows {
    pub(crate) addresses: Addresses,
    pub(crate) documents: u64,
    pub(crate) seed: u64,
}

impl Flows {
    /// Returns the document of this number.
    pub(crate) fn flow(&self, number: u64) -> Flow {
        let mut random = self.random(number);
        let (source, destination) = self.pair(number, &mut random);
        // The base query of the notebook asks for a private side: every document has one, so that it finds all.
        let (src_addr_space, dst_addr_space) = match random.random_range(0..3) {
            0 => ("private", "private"),
            1 => ("private", "public"),
            _ => ("public", "private"),
        };
        let (port, protocol) = SERVICES[random.random_range(0..SERVICES.len())];
        let timestamp =
            BEGIN + (u128::from(number) * u128::from(LENGTH) / u128::from(self.documents.max(1))) as u64;
        let in_pkts = random.random_range(1..2_000);
        let input_snmp = random.random_range(1..48);
        let netflow = Netflow {
            ipv4_src_addr: source,
            ipv4_dst_addr: destination,
            l4_src_port: random.random_range(1_024..65_535),
            l4_dst_port: port,
            protocol,
            tcp_flags: if protocol == 6 { random.random_range(0..64) } else { 0 },
            src_tos: random.random_range(0..8) * 32,
            in_bytes: in_pkts * random.random_range(40..1_500),
            in_pkts,
            input_snmp,
            output_snmp: input_snmp + 1,
            src_mask: 24,
            dst_mask: random.random_range(8..25),
            src_as: random.random_range(64_512..65_535),
            dst_as: random.random_range(1..64_000),
            first_switched: timestamp - random.random_range(0..60_000),
            last_switched: timestamp,
            flow_seq_num: number,
        };
        Flow {
            timestamp,
            version: "1",
            src_addr_space,
            dst_addr_space,
            netflow,
            host: Named { name: HOSTS[random.random_range(0..HOSTS.len())] },
            agent: Agent { name: "netflow-collector", version: "8.8.2" },
            event: Event { dataset: "netflow.log", category: "network" },
            tags: "netflow",
        }
    }

    /// Returns the document of this number without any field but its addresses, which are those of [`Flows::flow`].
    pub(crate) fn flat(&self, number: u64) -> FlatFlow {
        let (src, dst) = self.pair(number, &mut self.random(number));
        FlatFlow { src, dst }
    }

    /// Returns the places of the source and the destination of this document among their addresses.
    pub(crate) fn places(&self, number: u64) -> (u32, u32) {
        let (source, destination) = self.pair(number, &mut self.random(number));
        (u32::from(source) - SOURCES, u32::from(destination) - DESTINATIONS)
    }

    fn random(&self, number: u64) -> StdRng {
        StdRng::seed_from_u64(self.seed.wrapping_mul(STEP) ^ number.wrapping_mul(0x9e37_79b9_7f4a_7c15))
    }

    fn pair(&self, number: u64, random: &mut StdRng) -> (Ipv4Addr, Ipv4Addr) {
        let (source, destination) = match &self.addresses {
            Addresses::Uniform(addresses) => {
                let source = (u128::from(number) * u128::from(STEP) % u128::from(*addresses)) as u32;
                (source, random.random_range(0..*addresses))
            }
            Addresses::Zipf { sources, destinations } => {
                let (source, destination) = (sources.draw(random), destinations.draw(random));
                let kind = random.random_range(0..1_000);
                let (scanner, target) = (random.random_range(0..SCANNERS), random.random_range(0..TARGETS));
                // Planted addresses are the last ranks, which have the fewest flows otherwise.
                let last =
                    |zipf: &Zipf, planted: u32| (zipf.cumulative.len() as u32 - 1).saturating_sub(planted);
                if kind < SCANS {
                    let victim = random.random_range(0..destinations.cumulative.len() as u32);
                    (last(sources, scanner), victim)
                } else if kind < SCANS + HITS {
                    let attacker = random.random_range(0..sources.cumulative.len() as u32);
                    (attacker, last(destinations, target))
                } else {
                    (source, destination)
                }
            }
        };
        (Ipv4Addr::from(SOURCES + source), Ipv4Addr::from(DESTINATIONS + destination))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::index;
    use serde_json::Value;
    use std::collections::{BTreeSet, HashMap, HashSet};

    fn zipf(documents: u64) -> Flows {
        let addresses = Addresses::Zipf { sources: Zipf::new(200), destinations: Zipf::new(400) };
        Flows { addresses, documents, seed: 7 }
    }

    #[test]
    fn a_document_depends_on_the_seed_and_its_number_alone() {
        let text = |flows: &Flows, number| serde_json::to_string(&flows.flow(number)).unwrap();
        assert_eq!(text(&zipf(1_000), 12), text(&zipf(1_000), 12));
        assert_ne!(text(&zipf(1_000), 12), text(&Flows { seed: 8, ..zipf(1_000) }, 12));
        let flat = serde_json::to_value(zipf(1_000).flat(12)).unwrap();
        let flow = serde_json::to_value(zipf(1_000).flow(12)).unwrap();
        assert_eq!(flat["src"], flow["netflow"]["ipv4_src_addr"]);
        assert_eq!(flat["dst"], flow["netflow"]["ipv4_dst_addr"]);
    }

    #[test]
    fn planted_scanners_and_targets_stand_out() {
        let (flows, mut sources, mut destinations) = (zipf(20_000), HashMap::new(), HashMap::new());
        for number in 0..flows.documents {
            let (source, destination) = flows.pair(number, &mut flows.random(number));
            *sources.entry(source).or_insert(0) += 1;
            *destinations.entry(destination).or_insert(0) += 1;
        }
        assert_eq!((sources.len(), destinations.len()), (200, 400));
        // Rank 200 of 200 sources would have 16 flows by chance, rank 400 of 400 destinations 7.
        assert!((0..SCANNERS).all(|n| sources[&Ipv4Addr::from(SOURCES + 199 - n)] > 100));
        assert!((0..TARGETS).all(|n| destinations[&Ipv4Addr::from(DESTINATIONS + 399 - n)] > 100));
    }

    #[test]
    fn uniform_sources_are_all_distinct() {
        let flows = Flows { addresses: Addresses::Uniform(5_000), documents: 5_000, seed: 1 };
        let sources: HashSet<_> =
            (0..5_000).map(|number| flows.pair(number, &mut flows.random(number)).0).collect();
        assert_eq!(sources.len(), 5_000);
    }

    /// Returns the path of each leaf: below `within` if that is given, or of the value itself.
    fn paths(prefix: &str, value: &Value, within: Option<&str>) -> BTreeSet<String> {
        let object = within.map_or(Some(value), |key| value.get(key)).and_then(Value::as_object);
        let Some(object) = object else { return BTreeSet::from([prefix.to_owned()]) };
        object.iter().flat_map(|(name, value)| paths(&format!("{prefix}.{name}"), value, within)).collect()
    }

    #[test]
    fn flows_have_the_fields_of_the_mapping_and_the_size_of_the_notebooks() {
        let flow = serde_json::to_value(zipf(1_000).flow(999)).unwrap();
        let mapping = index::mapping(index::Shape::Flows, index::AddressType::Keyword);
        let (of_flow, of_mapping) = (paths("", &flow, None), paths("", &mapping, Some("properties")));
        assert_eq!(of_flow, of_mapping);
        assert!(of_flow.len() >= 23, "{}", of_flow.len());
        assert!((500..650).contains(&flow.to_string().len()), "{}", flow.to_string().len());
        let last = flow["@timestamp"].as_u64().unwrap();
        assert!((BEGIN..BEGIN + LENGTH).contains(&last));
    }
}
