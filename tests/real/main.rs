//! Tests against real servers and real clusters. `scripts/test` starts the servers and names them
//! in `FLOWSIGMA_TEST_SERVERS`, URLs with spaces between.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod differential;
mod golden;
mod names;
mod pushdown;
