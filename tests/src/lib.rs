//! What the integration tests share: the golden flows, servers and clusters, all of them real.
//!
//! Owns: loading test data and starting processes. Must not know: what a test expects.

pub mod bulk;
pub mod caller;
pub mod certificates;
pub mod cluster;
pub mod connect_proxy;
pub mod document;
pub mod golden;
pub mod hosts;
pub mod members;
pub mod proxy;
pub mod rows_proxy;
pub mod secrets;
pub mod secured;
pub mod server_nodes;
