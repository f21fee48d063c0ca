//! A file is written by writers that are killed at any moment.

use super::*;
use crate::sinks::lines::{CSV, NDJSON};
use crate::sinks::tests::{alert, alerts, manifest};
use std::os::unix::fs::PermissionsExt;

fn read(path: &Path) -> Vec<Alert> {
    let text = std::fs::read_to_string(path).unwrap();
    assert!(text.is_empty() || text.ends_with('\n'), "torn: {text:?}");
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

#[tokio::test]
async fn a_writer_killed_at_any_byte_leaves_each_finding_once() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("findings.ndjson");
    let sink = FileSink::new("file", &path, &NDJSON);
    let earlier = vec![alert(7)];
    sink.deliver(&manifest(), &earlier).await.unwrap();
    let kept = std::fs::metadata(&path).unwrap().len();
    sink.deliver(&manifest(), &alerts(2)).await.unwrap();
    let whole = std::fs::read(&path).unwrap();
    for length in kept..=whole.len() as u64 {
        std::fs::write(&path, &whole[..length as usize]).unwrap();
        // Another delivery may come between the kill and the repetition.
        let others = if length % 2 == 0 { vec![] } else { vec![alert(8)] };
        sink.deliver(&manifest(), &others).await.unwrap();
        sink.deliver(&manifest(), &alerts(2)).await.unwrap();
        let mut found = read(&path);
        assert_eq!(found.remove(0), earlier[0]);
        found.sort_by(|a, b| a.id.cmp(&b.id));
        assert_eq!(found, [alerts(2), others].concat(), "killed at {length}");
    }
}

#[tokio::test]
async fn another_revision_of_a_finding_is_another_line() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("findings.ndjson");
    let sink = FileSink::new("file", &path, &NDJSON);
    let first = alerts(2);
    let mut second = alerts(2);
    second.iter_mut().for_each(|alert| alert.revision = 2);
    for revision in [&first, &second, &first, &second] {
        sink.deliver(&manifest(), revision).await.unwrap();
    }
    assert_eq!(read(&path), [first, second].concat());
}

#[tokio::test]
async fn a_new_file_is_readable_only_by_its_account() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("findings.ndjson");
    let sink = FileSink::new("file", &path, &NDJSON);
    sink.deliver(&manifest(), &[]).await.unwrap();
    assert!(!path.exists(), "a delivery without findings opens no file");
    sink.deliver(&manifest(), &alerts(1)).await.unwrap();
    assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
}

#[tokio::test]
async fn what_cannot_be_written_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let message = async |path: &Path| {
        let sink = FileSink::new("out", path, &NDJSON);
        sink.deliver(&manifest(), &alerts(1)).await.unwrap_err().to_string()
    };
    let missing = folder.path().join("missing/findings.ndjson");
    let error = message(&missing).await;
    let expected = format!(
        "sink \"out\" of job \"scan\": file {}: the folder {} does not exist; create it",
        missing.display(),
        folder.path().join("missing").display()
    );
    assert!(error.starts_with(&expected), "{error}");
    assert!(!folder.path().join("missing").exists());
    let error = message(folder.path()).await;
    assert!(error.contains("directory"), "{error}");
    let error = message(Path::new("/dev/null")).await;
    assert!(error.contains("/dev/null is not a regular file"), "{error}");
    let other = folder.path().join("other");
    std::fs::write(&other, "no line feed").unwrap();
    let error = message(&other).await;
    assert!(error.contains("is not a finding"), "{error}");
    assert_eq!(std::fs::read_to_string(&other).unwrap(), "no line feed");
}

#[tokio::test]
async fn a_file_that_another_process_has_locked_is_not_written() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("findings.ndjson");
    let holder = File::create(&path).unwrap();
    holder.lock().unwrap();
    let sink = FileSink { lock_wait: Duration::ZERO, ..FileSink::new("file", &path, &NDJSON) };
    let error = sink.deliver(&manifest(), &alerts(1)).await.unwrap_err().to_string();
    assert!(error.contains("another process has held its lock"), "{error}");
    assert_eq!(read(&path), []);
    drop(holder);
    sink.deliver(&manifest(), &alerts(1)).await.unwrap();
    assert_eq!(read(&path), alerts(1));
}

#[test]
fn a_file_that_was_moved_away_is_not_the_file_any_more() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("findings.ndjson");
    let sink = FileSink::new("file", &path, &NDJSON);
    let file = sink.open_unlocked().unwrap();
    assert!(sink.is_at_path(&file).unwrap());
    std::fs::rename(&path, folder.path().join("findings.1")).unwrap();
    assert!(!sink.is_at_path(&file).unwrap());
    sink.open_unlocked().unwrap();
    assert!(!sink.is_at_path(&file).unwrap());
}

#[tokio::test]
async fn a_table_has_one_header_and_each_finding_once_whenever_its_writer_is_killed() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("findings.csv");
    let sink = FileSink::new("file", &path, &CSV);
    sink.deliver(&manifest(), &alerts(2)).await.unwrap();
    let whole = std::fs::read(&path).unwrap();
    let text = String::from_utf8(whole.clone()).unwrap();
    let id = format!("{:064x}", 1);
    let line = "2026-01-01T00:00:00Z,2026-01-01T01:00:00Z,1,new,outgoing,10.0.0.1,90,4,10.5,2.25,35";
    assert_eq!(text.lines().nth(1).unwrap(), format!("{id},scan,{line},2026-01-01T01:06:00Z"));
    for length in 0..=whole.len() {
        std::fs::write(&path, &whole[..length]).unwrap();
        sink.deliver(&manifest(), &alerts(2)).await.unwrap();
        assert_eq!(std::fs::read_to_string(&path).unwrap(), text, "killed at {length}");
    }
}
