//! Scrolls are of whoever reads, so they are freed by executors: when a job is cancelled, and when an
//! executor is told to end.

use crate::command::stderr;
use crate::golden::{ALONE, assert_nothing_open, loaded, servers};
use crate::kill::{Bench, WORK, nothing};
use flowsigma_tests::golden::open_contexts;
use flowsigma_tests::proxy::{Fault, Proxy, Seen};
use std::process::{Child, Command};

/// The answers to a scroll's later pages, so that its id is known.
fn scroll_pages(seen: &Seen) -> Fault {
    if seen.path == "/_search/scroll" && seen.method == "POST" { Fault::Hold } else { Fault::None }
}

/// The answers by which scrolls are opened, each the only place where its id is.
fn scroll_openings(seen: &Seen) -> Fault {
    let sliced = || String::from_utf8_lossy(&seen.body).contains("\"slice\"");
    if seen.path.ends_with("/_search") && sliced() { Fault::Hold } else { Fault::None }
}

fn signal(child: u32, signal: &str) {
    assert!(Command::new("kill").args([signal, &child.to_string()]).status().unwrap().success());
}

fn rows(output: &std::process::Output) -> usize {
    String::from_utf8_lossy(&output.stdout).matches("private").count()
}

#[tokio::test(flavor = "multi_thread")]
async fn ctrl_c_leaves_no_scroll_of_two_executors_open() {
    let _alone = ALONE.lock().await;
    for url in servers() {
        for opening in [false, true] {
            let held = if opening { scroll_openings } else { scroll_pages };
            let bench = Bench::new(&url, [held, held]).await;
            let client = bench.long_scan(", 'read' 'scroll'");
            bench.held(0).await;
            bench.held(1).await;
            assert!(open_contexts(&bench.connection).await.unwrap() > 1, "{url}");
            signal(client.id(), "-INT");
            let output = bench.end(client, WORK);
            assert_eq!(output.status.code(), Some(130), "{url}: {}", stderr(&output));
            // What was held back is of no use any more, but for the ids that were on it.
            if opening {
                bench.release();
            }
            assert_nothing_open(&bench.connection).await;
        }
    }
}
