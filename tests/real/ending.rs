//! What goes to stdout and what to stderr, how the command ends, and what it leaves.

use crate::command::{flowsigma, stderr, stdout};
use flowsigma_tests::cluster::binary;
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

fn golden_flows() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples/golden-flows.ndjson")
}

/// What comes by a pipe, as `sql` reads it.
fn piped(args: &[&str], text: &str) -> Output {
    let mut child = Command::new(binary("flowsigma").unwrap())
        .args(args)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(text.as_bytes()).unwrap();
    child.wait_with_output().unwrap()
}

#[test]
fn what_comes_by_a_pipe_is_run_to_its_end() {
    let output = piped(&["sql", "--format", "csv"], "SELECT 1 AS one;\nSELECT 2 AS two");
    assert_eq!((output.status.code(), stdout(&output)), (Some(0), "one\n1\ntwo\n2\n"), "{}", stderr(&output));
    assert_eq!(stderr(&output), "");

    let output = piped(&["sql"], "SELECT nowhere;");
    assert_eq!((output.status.code(), stdout(&output)), (Some(2), ""), "{}", stderr(&output));
    assert!(stderr(&output).contains("nowhere"), "{}", stderr(&output));
}

#[test]
fn what_fails_after_something_was_run_is_told_apart() {
    let output = flowsigma(&["sql", "--format", "csv", "-c", "SELECT 1 AS one; SELECT nowhere"]);
    assert_eq!((output.status.code(), stdout(&output)), (Some(1), "one\n1\n"), "{}", stderr(&output));
}

/// Through the scheduler, which has no more than a text.
#[test]
fn the_error_of_a_task_is_one_line_for_people() {
    let sql = format!(
        "CREATE EXTERNAL TABLE f STORED AS JSON LOCATION '{}'; \
         SELECT CAST(src_addr_space AS BIGINT) FROM f WHERE src_addr_space = 'private'",
        golden_flows().display()
    );
    let output = flowsigma(&["sql", "-c", &sql]);
    assert_eq!((output.status.code(), stdout(&output)), (Some(1), ""), "{}", stderr(&output));
    let said = stderr(&output);
    assert!(said.starts_with("error: Job ") && said.lines().count() == 1, "{said}");
    assert!(said.contains(" failed: Cannot cast string 'private' to value of Int64 type"), "{said}");
    for word in ["DataFusionError", "Shared", "\\"] {
        assert!(!said.contains(word), "{said}");
    }
}

#[test]
fn who_has_read_enough_gets_no_panic() {
    let flows = golden_flows();
    let flows = flows.to_str().unwrap();
    let many = format!(
        "CREATE EXTERNAL TABLE f STORED AS JSON LOCATION '{flows}'; \
         SELECT a.src_addr_space, b.dst_addr_space FROM f a CROSS JOIN f b LIMIT 50000"
    );
    for args in [
        &["detect", "--file", flows][..],
        &["sql", "--format", "csv", "-c", &many],
        &["sql", "--format", "json", "-c", &many],
        &["detect", "--file", flows, "--format", "csv"],
        &["plan", "--file", flows],
        &["sql", "-c", "SELECT 1"],
        &["sql", "--format", "json", "-c", "SELECT 1"],
        &["sql", "--format", "csv", "-c", "SELECT 1"],
    ] {
        let mut child = Command::new(binary("flowsigma").unwrap())
            .args(args)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        drop(child.stdout.take());
        let output = child.wait_with_output().unwrap();
        assert_eq!((output.status.code(), stderr(&output)), (Some(141), ""), "{args:?}");
    }
}

/// What is typed before the prompt is there is lost. Its text comes once for each line, and once more as
/// the line is drawn.
fn read_until(screen: &mut impl Read, prompt: &str) {
    let mut seen = Vec::new();
    let mut byte = [0];
    while !String::from_utf8_lossy(&seen).contains(prompt) {
        assert_eq!(screen.read(&mut byte).unwrap(), 1, "{}", String::from_utf8_lossy(&seen));
        seen.extend(byte);
    }
}

/// A terminal that `script` makes, of which stdout is none. What fails is told, and the next statement
/// is read.
#[test]
fn the_prompt_is_on_the_terminal_and_rows_on_stdout() {
    let home = tempfile::tempdir().unwrap();
    let program = binary("flowsigma").unwrap();
    let command = format!("{} sql --format csv > rows.csv 2> told.txt", program.display());
    let mut child = Command::new("script")
        .args(["--quiet", "--return", "--command", &command, "/dev/null"])
        .current_dir(home.path())
        .env("XDG_STATE_HOME", home.path())
        .env("TERM", "xterm")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let (mut keys, mut screen) = (child.stdin.take().unwrap(), child.stdout.take().unwrap());
    let first = "flowsigma> ";
    for (prompt, line) in [
        (first, "SELECT 1"),
        ("        -> ", "  AS one;"),
        (first, "SELECT missing;"),
        (first, ""),
        (first, "SELECT 2 AS two; SELECT 3 AS three;"),
        (first, "\\q"),
    ] {
        read_until(&mut screen, prompt);
        writeln!(keys, "{line}").unwrap();
    }
    let status = child.wait().unwrap();
    let [rows, told] =
        ["rows.csv", "told.txt"].map(|name| std::fs::read_to_string(home.path().join(name)).unwrap());
    assert_eq!(status.code(), Some(0), "{told}");
    assert_eq!(rows, "one\n1\ntwo\n2\nthree\n3\n");
    assert!(told.contains("missing"), "{told}");
    let history = std::fs::read_to_string(home.path().join("flowsigma/history")).unwrap();
    assert!(history.contains("SELECT 2 AS two; SELECT 3 AS three;"), "{history}");
}

/// Rows go from task to task through files.
#[test]
fn nothing_stays_in_the_folder_for_temporary_files() {
    let temporary = tempfile::tempdir().unwrap();
    let output = Command::new(binary("flowsigma").unwrap())
        .args(["detect", "--file"])
        .arg(golden_flows())
        .env("TMPDIR", temporary.path())
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", stderr(&output));
    let left: Vec<_> = std::fs::read_dir(temporary.path()).unwrap().map(|e| e.unwrap().path()).collect();
    assert!(left.is_empty(), "{left:?}");
}
