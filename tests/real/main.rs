//! Tests against real servers and real clusters. `scripts/test` starts the servers and names them
//! in `FLOWSIGMA_TEST_SERVERS`, URLs with spaces between.

mod golden;
