//! Elasticsearch and OpenSearch indices as DataFusion tables.
//!
//! Owns: the table, its options, the translation of filters to queries, the SQL functions, and the scan node.
//! Must not know: Ballista. Another crate owns the envelope in which a plan is sent.

mod address_order;
mod aggregate;
mod contexts;
mod decode;
mod error;
mod exec;
mod factory;
mod functions;
mod options;
mod prove;
mod pushdown;
mod spec;
mod table;
mod top_n;
pub mod wire;

pub use address_order::AddressOrder;
pub use aggregate::{EsAggregateExec, PushAggregates};
pub use contexts::{QueryContexts, open_contexts, open_matching_contexts, planned_slices};
pub use exec::EsScanExec;
pub use factory::EsTableFactory;
pub use functions::functions;
pub use options::{Aggregate, Ignored, Pushdown, TableOptions};
pub use prove::prove_filters;
pub use spec::{ScanSpec, TableSpec};
pub use table::EsTable;
pub use top_n::TopN;

#[cfg(test)]
mod tests {
    #[test]
    fn the_readme_shows_the_example() {
        let example = include_str!("../examples/sql.rs");
        assert!(include_str!("../README.md").contains(&format!("```rust\n{example}```\n")));
    }
}
