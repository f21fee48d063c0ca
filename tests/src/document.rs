//! The commands in a document, run as they stand there.
//!
//! Owns: the convention. A block with a file name after its language is that file; a block `sh` is
//! run; a block `text` is what it prints, in which … stands for anything.

use anyhow::{Context, Result, ensure};
use std::path::Path;
use std::process::Command;

/// Runs all blocks of `document` in `folder`, with `programs` first in the search path, and
/// `replace` made in each of them.
pub fn run(document: &str, folder: &Path, programs: &Path, replace: &[(&str, &str)]) -> Result<usize> {
    let mut said: Option<(String, String)> = None;
    let mut checked = 0;
    for (head, text) in blocks(document) {
        let mut text = text;
        for (from, to) in replace {
            text = text.replace(from, to);
        }
        match head.split_once(' ') {
            Some((_, file)) => std::fs::write(folder.join(file), &text)?,
            None if head == "sh" => {
                if let Some((command, printed)) = said.take() {
                    ensure!(
                        printed.is_empty(),
                        "{command}\nprints, and the document does not say what:\n{printed}"
                    );
                }
                said = Some((text.clone(), shell(&text, folder, programs)?));
            }
            None if head == "text" => {
                let (command, printed) = said.take().context("text after no command")?;
                ensure!(
                    matches(&text, &printed),
                    "{command}\nprints\n{printed}\nand the document says\n{text}"
                );
                checked += 1;
            }
            None => {}
        }
    }
    Ok(checked)
}

fn blocks(document: &str) -> Vec<(String, String)> {
    let mut blocks = Vec::new();
    let mut open: Option<(String, String)> = None;
    for line in document.lines() {
        match (line.strip_prefix("```"), &mut open) {
            (Some(_), Some(_)) => blocks.extend(open.take()),
            (Some(head), None) => open = Some((head.to_owned(), String::new())),
            (None, Some((_, text))) => {
                text.push_str(line);
                text.push('\n');
            }
            (None, None) => {}
        }
    }
    blocks
}

fn shell(text: &str, folder: &Path, programs: &Path) -> Result<String> {
    let path = format!("{}:{}", programs.display(), std::env::var("PATH").unwrap_or_default());
    let output = Command::new("bash")
        .args(["-euo", "pipefail", "-c", text])
        .current_dir(folder)
        .env("PATH", path)
        .env_remove("FLOWSIGMA_CONFIG")
        .output()?;
    let errors = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "{text}\nfailed: {errors}");
    Ok(String::from_utf8(output.stdout)?)
}

fn matches(expected: &str, printed: &str) -> bool {
    let (expected, printed): (Vec<&str>, Vec<&str>) = (expected.lines().collect(), printed.lines().collect());
    expected.len() == printed.len()
        && expected.iter().zip(&printed).all(|(expected, printed)| line_matches(expected, printed))
}

fn line_matches(expected: &str, printed: &str) -> bool {
    let mut parts = expected.split('…');
    let Some(mut rest) = printed.strip_prefix(parts.next().unwrap_or_default()) else { return false };
    let parts: Vec<&str> = parts.collect();
    let Some((last, middle)) = parts.split_last() else { return rest.is_empty() };
    for part in middle {
        let Some(at) = rest.find(part) else { return false };
        rest = &rest[at + part.len()..];
    }
    rest.ends_with(last)
}

#[cfg(test)]
mod tests {
    use super::line_matches;

    #[test]
    fn an_ellipsis_stands_for_anything_and_nothing_else_does() {
        assert!(line_matches("a…c", "abc") && line_matches("a…", "a") && line_matches("…b…d", "abcd"));
        assert!(!line_matches("a…c", "abcd") && !line_matches("a", "ab") && !line_matches("…b…d", "ad"));
    }
}
