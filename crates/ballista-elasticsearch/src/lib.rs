//! Elasticsearch tables on a Ballista cluster.
//!
//! Owns: the codecs, the one registration that client, scheduler, executor and the embedded cluster
//! share, and what their processes do alike. Must not know: what the tables are used for.

/// Who may do what. Its own module's file comes with the scheduler's part of it.
mod admission {
    mod paths;

    pub use paths::Protected;
    pub(crate) use paths::{Roots, resolve};
}
mod checked_files;
mod client_pool;
mod cluster;
mod codec;
mod embedded;
mod execution_engine;
mod file_access;
mod job;
mod links;
mod message;
mod node;
mod progress;
mod query_planner;
mod register;
mod running_jobs;
mod scheduler;
mod task_guard;

pub use admission::Protected;
pub use cluster::Cluster;
pub use codec::{EsLogicalCodec, EsPhysicalCodec, physical_codec};
pub use embedded::{delete_embedded_files, private_folder};
pub use execution_engine::{StoppingEngine, execution_engine};
pub use file_access::FileAccess;
pub use job::{Job, ScanReport};
pub use links::ClusterLinks;
pub use message::one_line;
pub use node::{NodeArgs, NodeLogs, node_runtime, told_to_end};
pub use progress::JobProgress;
pub use register::{
    endpoint_override, executor_endpoint_override, function_registry, session_config, session_state,
};
pub use task_guard::TaskGuard;
