//! Elasticsearch and OpenSearch tables on a Ballista cluster.
//!
//! Owns: the codecs, the session registration that client, scheduler, executor and the embedded cluster share, and
//! the servers of scheduler and executor. Must not know: what the tables are used for, or the options and logs of
//! a process.

mod admission;
mod caller;
mod checked_files;
mod client_planner;
mod client_pool;
mod cluster;
mod cluster_tls;
mod codec;
mod copy;
mod embedded;
mod embedded_service;
mod end_wait;
mod execution_engine;
mod executor_node;
mod file_access;
mod guarded_graph;
mod job;
mod job_guard;
mod last_rows;
mod listener;
mod message;
mod progress;
mod query_planner;
mod register;
mod running_jobs;
mod scan_report;
mod scheduler;
mod server;
mod submission;
mod task_guard;
mod wake;
mod work_signal;

pub use admission::{
    Admission, AuditLog, Browsers, Guard, Identity, Protected, Reach, Refusal, decode_plan, reach_of,
};
pub use cluster::Cluster;
pub use cluster_tls::ClusterTls;
pub use codec::{EsLogicalCodec, EsPhysicalCodec, physical_codec};
pub use copy::delete_staged_files;
pub use embedded::delete_embedded_files;
pub use execution_engine::{StoppingEngine, execution_engine};
pub use executor_node::ExecutorNode;
pub use file_access::FileAccess;
pub use job::Job;
pub use job_guard::JobGuard;
pub use last_rows::LastRows;
pub use message::one_line;
pub use progress::JobProgress;
pub use register::{
    endpoint_override, executor_endpoint_override, function_registry, session_config, session_state,
};
pub use scan_report::ScanReport;
pub use server::{RandomJobIds, SchedulerServices, open_rows_service, serve};
pub use task_guard::TaskGuard;
pub use work_signal::WorkSignal;

#[cfg(test)]
mod tests {
    #[test]
    fn the_readme_shows_the_example() {
        let example = include_str!("../examples/cluster.rs");
        assert!(include_str!("../README.md").contains(&format!("```rust\n{example}```\n")));
    }
}
