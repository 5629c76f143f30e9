//! Reads the decision journal of an earlier run, to meet its decisions again.

use std::fs::File;
use std::io::{BufRead as _, BufReader, Read as _};
use std::path::Path;

use super::Error;
use crate::engine::Replay;

/// The longest line of a journal; it has a few hundred bytes.
const LONGEST_LINE: u64 = 64 * 1024;

/// Reads a journal line by line.
pub fn read_journal(path: &Path) -> Result<Replay, Error> {
    let shown = path.display();
    let unread = |error: std::io::Error| Error::Plan(format!("`{shown}` cannot be read: {error}"));
    let mut file = BufReader::new(File::open(path).map_err(unread)?);
    let mut replay = Replay::default();
    let mut line = String::new();
    for number in 1_u64.. {
        line.clear();
        let read = file.by_ref().take(LONGEST_LINE).read_line(&mut line).map_err(unread)?;
        if read == 0 {
            break;
        }
        let whole = line.ends_with('\n');
        if read as u64 == LONGEST_LINE && !whole {
            return Err(Error::Plan(format!(
                "`{shown}`, line {number}: it is no line of a decision journal: too long"
            )));
        }
        if line.trim().is_empty() {
            continue;
        }
        match replay.add(line.trim_end()) {
            Ok(()) => {}
            // A run that was killed leaves half a line at the end.
            Err(_) if !whole => break,
            Err(bad) => return Err(Error::Plan(format!("`{shown}`, line {number}: {bad}"))),
        }
    }
    if replay.is_empty() {
        return Err(Error::Plan(format!("`{shown}` holds no decisions")));
    }
    Ok(replay)
}

#[cfg(test)]
mod tests {
    use super::*;

    const LINE: &str = r#"{"key":"00000000000000ff","ordinal":0,"dependency":"llm","fault":"a","matched":true,"selected":true,"hit":true,"drawn":{},"at_s":1.0,"seed":7}"#;

    fn read(text: &[u8]) -> Result<Replay, String> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("decisions.jsonl");
        std::fs::write(&path, text).unwrap();
        read_journal(&path).map_err(|error| error.to_string())
    }

    #[test]
    fn journals_are_read_to_the_last_whole_line() {
        assert!(read(format!("{LINE}\n\n{LINE}\n{{\"key\":\"00").as_bytes()).is_ok());
        let bad = read(format!("{LINE}\nnonsense\n{LINE}\n").as_bytes()).unwrap_err();
        assert!(bad.contains("line 2: it is no line of a decision journal"), "{bad}");
        assert!(read(b"").unwrap_err().contains("holds no decisions"));
        let endless = vec![b'x'; 100_000];
        assert!(read(&endless).unwrap_err().contains("too long"));
        assert!(read_journal(Path::new("/nowhere/at.all")).is_err());
    }
}
