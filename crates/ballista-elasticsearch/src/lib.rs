//! Elasticsearch tables on a Ballista cluster.
//!
//! Owns: the codecs, and the one registration that client, scheduler, executor and the embedded
//! cluster share. Must not know: what the tables are used for.

mod codec;
mod links;
mod register;

pub use codec::{EsLogicalCodec, EsPhysicalCodec, physical_codec};
pub use links::ClusterLinks;
pub use register::{embedded_context, remote_context, session_config, session_state};
