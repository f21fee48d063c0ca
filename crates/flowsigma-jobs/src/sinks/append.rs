//! Appending lines to a file so that a kill at any moment and a second call leave each of them there once.
//!
//! Owns: the last line of a writer that was killed, and which lines are already there. Must not know: the file's path,
//! or its lock, which the caller holds.

use super::identity::Identity;
use super::lines::{Form, Line};
use std::collections::HashSet;
use std::fs::File;
use std::io::{self, BufRead, BufReader, ErrorKind, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::FileExt;

/// The end part of the file that is searched for lines that are already there, besides the size of those to append.
const TAIL: u64 = 16 << 20;
/// A last line without line feed that is longer than this is not ours.
const LONGEST_LINE: u64 = 1 << 20;

/// Appends the lines that the end part of the file does not have, and waits until they are on disk.
///
/// # Errors
///
/// If the file cannot be read or written, or if its last line has no line feed and is not one of ours.
pub(super) fn append(file: &File, form: &Form, lines: &[Line]) -> io::Result<()> {
    repair_header(file, form)?;
    let length = repair(file, form)?;
    let size: u64 = lines.iter().map(|line| line.text.len() as u64).sum();
    let there = identities(file, form, length.saturating_sub(TAIL + size))?;
    let missing = lines.iter().filter(|line| !there.contains(&line.identity));
    let header = if length == 0 { form.header } else { b"" };
    let text = header.iter().chain(missing.flat_map(|line| &line.text));
    let text: Vec<u8> = text.copied().collect();
    (&*file).write_all(&text)?;
    // Also without a missing line: a writer that was killed may not have come this far.
    file.sync_all()
}

/// Refuses a file without the header of the form. An incomplete header is removed.
fn repair_header(file: &File, form: &Form) -> io::Result<()> {
    let length = file.metadata()?.len();
    let size = (form.header.len() as u64).min(length);
    let mut start = vec![0; usize::try_from(size).unwrap_or(0)];
    file.read_exact_at(&mut start, 0)?;
    let is_complete = start.len() == form.header.len();
    let written = if is_complete { &start } else { written(&start) };
    if !form.header.starts_with(written) {
        let problem = "its first line is not the header of findings; change path of this sink";
        return Err(io::Error::new(ErrorKind::InvalidData, problem));
    }
    if is_complete { Ok(()) } else { file.set_len(0) }
}

/// Ends the last line of a writer that was killed, and returns the length of the file. A line that lacks only its line
/// feed gets it, because it may be one that was delivered. An incomplete line is removed.
fn repair(file: &File, form: &Form) -> io::Result<u64> {
    let length = file.metadata()?.len();
    let mut end = vec![0; usize::try_from(length.min(LONGEST_LINE)).unwrap_or(0)];
    let end_start = length - end.len() as u64;
    file.read_exact_at(&mut end, end_start)?;
    let line_start = end.iter().rposition(|byte| *byte == b'\n').map_or(0, |feed| feed + 1);
    let torn = &end[line_start..];
    if torn.is_empty() {
        return Ok(length);
    }
    if (form.identity)(torn).is_some() {
        (&*file).write_all(b"\n")?;
        return Ok(length + 1);
    }
    if (line_start == 0 && end_start > 0) || !(form.may_begin)(written(torn)) {
        return Err(io::Error::new(
            ErrorKind::InvalidData,
            "its last line has no line feed and is not a finding; end the line, or change path of this sink",
        ));
    }
    let kept = end_start + line_start as u64;
    file.set_len(kept)?;
    Ok(kept)
}

/// Returns what was written of an incomplete line. A crash of the machine may leave zeros at its end.
fn written(torn: &[u8]) -> &[u8] {
    &torn[..torn.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1)]
}

/// Returns the identities of the lines that begin at or after an offset.
fn identities(file: &File, form: &Form, offset: u64) -> io::Result<HashSet<Identity>> {
    let mut reader = BufReader::new(file);
    reader.seek(SeekFrom::Start(offset))?;
    let mut line = Vec::new();
    if offset > 0 {
        // The rest of a line that begins before the offset.
        reader.seek_relative(-1)?;
        reader.skip_until(b'\n')?;
    }
    let mut found = HashSet::new();
    loop {
        line.clear();
        if reader.by_ref().take(LONGEST_LINE).read_until(b'\n', &mut line)? == 0 {
            return Ok(found);
        }
        found.extend((form.identity)(&line));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sinks::lines::{CSV, NDJSON};
    use crate::sinks::tests::alerts;

    fn file(content: &[u8]) -> File {
        let named = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(named.path(), content).unwrap();
        File::options().read(true).append(true).open(named.path()).unwrap()
    }

    fn content(file: &File) -> Vec<u8> {
        let mut content = vec![0; file.metadata().unwrap().len() as usize];
        file.read_exact_at(&mut content, 0).unwrap();
        content
    }

    #[test]
    fn a_last_line_that_is_not_ours_is_kept_and_refused() {
        let lines = NDJSON.lines(&alerts(1)).unwrap();
        for other in ["root:x:0:0", "a\nb", "{\"idea\":1", "{\"id\":\"1\"}\n[", "\0\0x"] {
            let file = file(other.as_bytes());
            let error = append(&file, &NDJSON, &lines).unwrap_err();
            assert!(error.to_string().contains("is not a finding"), "{error}");
            assert_eq!(content(&file), other.as_bytes());
        }
        let long = [b"{\"id\":\"", vec![b'x'; LONGEST_LINE as usize].as_slice()].concat();
        append(&file(&long), &NDJSON, &lines).unwrap_err();
    }

    #[test]
    fn a_torn_line_is_removed_and_a_complete_one_gets_its_line_feed() {
        let lines = NDJSON.lines(&alerts(2)).unwrap();
        let (one, two) = (&lines[0].text, &lines[1].text);
        for torn in ["", "{", "{\"id\":\"ab", "{\"id\":\"ab\0\0", "\0\0\0"] {
            let file = file(&[b"other\n", torn.as_bytes()].concat());
            append(&file, &NDJSON, &lines[..1]).unwrap();
            assert_eq!(content(&file), [b"other\n", one.as_slice()].concat(), "{torn:?}");
        }
        let file = file(&one[..one.len() - 1]);
        append(&file, &NDJSON, &lines[1..]).unwrap();
        assert_eq!(content(&file), [one.as_slice(), two].concat());
    }

    #[test]
    fn a_file_without_the_header_of_findings_is_refused() {
        let lines = CSV.lines(&alerts(1)).unwrap();
        for other in ["abc", "a,b\n1,2\n", "id,job\n", "00"] {
            let file = file(other.as_bytes());
            let error = append(&file, &CSV, &lines).unwrap_err();
            assert!(error.to_string().contains("not the header of findings"), "{error}");
            assert_eq!(content(&file), other.as_bytes());
        }
        let whole = [CSV.header, lines[0].text.as_slice()].concat();
        for torn in ["", "id,jo", "id,job\0\0", "\0"] {
            let file = file(torn.as_bytes());
            append(&file, &CSV, &lines).unwrap();
            assert_eq!(content(&file), whole, "{torn:?}");
        }
        let file = file(&[CSV.header, b"abcdef,scan"].concat());
        append(&file, &CSV, &lines).unwrap_err();
    }

    #[test]
    fn lines_that_begin_in_the_end_part_are_found() {
        let lines = NDJSON.lines(&alerts(3)).unwrap();
        let file = file(&lines.iter().flat_map(|line| line.text.clone()).collect::<Vec<_>>());
        let first = lines[0].text.len() as u64;
        for (offset, expected) in [(0, 3), (1, 2), (first - 1, 2), (first, 2), (first + 1, 1)] {
            assert_eq!(identities(&file, &NDJSON, offset).unwrap().len(), expected, "{offset}");
        }
    }
}
