//! Jobs on a schedule: what a job is, which windows it covers, what its store holds, and who gets its findings.
//!
//! Owns: job files, windows, the store with its manifests and leases, sinks, and the order of a run. Must not know: how
//! flows are counted (an [`Engine`] does), DataFusion, Ballista, or command-line options.
//!
//! A run of a window is idempotent. It holds the job's lease, counts, writes the counts, and writes the manifest last: a
//! revision without a manifest does not exist. Then it delivers the findings to the sinks; a delivery is recorded once it
//! has succeeded, so the next run delivers what is still owed.

mod advance;
mod alert;
mod alerts;
mod allowed;
mod engine;
mod error;
mod job;
mod job_file;
mod lease;
mod manifest;
mod new;
mod run;
pub mod serve;
mod sink;
pub mod sinks;
mod span;
mod store;
mod window;

pub use advance::{Advance, BackfillRedo, Control, plan_backfill};
pub use alert::{Alert, AlertState};
pub use alerts::alerts;
pub use allowed::Allowed;
pub use engine::{Engine, Outcome};
pub use error::{Error, Result};
pub use job::{
    DetectionSpec, FindingsFormat, Job, Limits, ScheduleSpec, SinkSpec, SourceSpec, StoreSpec, WindowSpec,
};
pub use job_file::{JobFile, json_schema, read_folder};
pub use lease::{Lease, this_process};
pub use manifest::{Finding, Manifest, WindowTimes};
pub use new::{KnownFields, NewJob, known_fields, write_job_file};
pub use run::{Late, Recounts, Redo, Run, Runner, State, WindowState, states};
pub use sink::Sink;
pub use span::Span;
pub use store::{Failure, Published, Recount, Store};
pub use window::Calendar;
