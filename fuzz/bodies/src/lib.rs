//! What is fuzzed, as plain functions over bytes: `scripts/fuzz` calls them, and so do the tests of this crate.
//!
//! Owns: which inputs are tried and what must hold of them. Must not know the fuzzer.
//!
//! Each body takes its bytes twice: as the input itself, and as the choices by which a nearly valid input is
//! made.

mod config;
pub mod json;
mod mapping;
mod page;
mod query;
mod replay;

pub use config::config;
pub use mapping::{mapping, some_columns};
pub use page::page;
pub use query::query;
pub use replay::replay;
