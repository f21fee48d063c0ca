//! Elasticsearch and OpenSearch indices as DataFusion tables.
//!
//! Owns: the table, its options, what of a filter is pushed, the functions, and the scan node.
//! Must not know: Ballista. The envelope in which a plan is sent is another crate's.

mod address_order;
mod contexts;
mod decode;
mod error;
mod exec;
mod factory;
mod functions;
mod options;
mod pushdown;
mod table;
mod top_rows;
pub mod wire;

pub use address_order::AddressOrder;
pub use contexts::{QueryContexts, open_contexts, planned_slices};
pub use exec::{EsScanExec, ScanSpec};
pub use factory::EsTableFactory;
pub use functions::functions;
pub use options::{Ignored, Pushdown, TableOptions};
pub use table::{EsTable, TableSpec};
pub use top_rows::TopRows;

#[cfg(test)]
mod tests {
    #[test]
    fn the_readme_shows_the_example() {
        let example = include_str!("../examples/sql.rs");
        assert!(include_str!("../README.md").contains(&format!("```rust\n{example}```\n")));
    }
}
