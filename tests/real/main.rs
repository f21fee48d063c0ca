//! Tests against real servers and real clusters. `scripts/test` starts the servers and names them
//! in `FLOWSIGMA_TEST_SERVERS`, URLs with spaces between, and the secured one in `FLOWSIGMA_TEST_SECURE_…`.
//! `scripts/test --hosts` runs those alone that are ignored otherwise.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod addresses;
mod aggregates;
mod attack;
mod cleanup;
mod cluster_files;
mod cluster_page;
mod cluster_tls;
mod command;
mod copy;
mod credentials;
mod deaths;
mod differential;
mod ending;
mod faults;
mod golden;
mod hosts;
mod index_names;
mod insert;
mod jobs;
mod jobs_page;
mod kill;
mod killed_node;
mod logs;
mod many;
mod memory;
mod names;
mod nodes;
mod progress;
mod pushdown;
mod renewal;
mod responses;
mod said;
mod secrets;
mod security;
mod shapes;
mod skipped;
mod sort_values;
mod statements;
mod stopped;
mod tables;
mod transport;
mod types;
mod vcores;
mod wide;
