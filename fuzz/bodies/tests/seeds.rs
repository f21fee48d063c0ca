//! All bodies of this crate over their seeds.

use fuzz_bodies::replay;

#[test]
fn pages() {
    replay("page", fuzz_bodies::page);
}

#[test]
fn mappings() {
    replay("mapping", fuzz_bodies::mapping);
}

#[test]
fn queries() {
    replay("query", fuzz_bodies::query);
}

#[test]
fn configurations() {
    replay("config", fuzz_bodies::config);
}
