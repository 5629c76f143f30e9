//! The Redis protocol (RESP2, RESP3, inline commands): finding the ends of values in bytes that pass.
//! It keeps nothing but a short prefix of each value.

use bytes::Bytes;

/// Values may stand within values this deep.
const DEEPEST: usize = 64;
/// A line that names a length, or an inline command, is no longer than Redis takes it (64 KiB).
const LONGEST_LINE: usize = 64 << 10;
/// A bulk string is no longer than Redis takes it (512 MB by default, at most 4 GB).
const LONGEST_BULK: u64 = 4 << 30;
const MOST_PARTS: u64 = 1 << 31;
/// What is kept of a value while it passes.
const KEPT: usize = 256;

/// Bytes that are no values.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("these are no values of the Redis protocol")]
pub struct Malformed;

/// Which side speaks.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Side {
    /// Commands: arrays of strings, or lines.
    App,
    Server,
}

/// Follows values that pass, in whatever pieces they come.
#[derive(Debug)]
pub struct Framer {
    side: Side,
    /// How many values each open aggregate still lacks.
    open: Vec<u64>,
    /// Bytes of a string (and its line end) still to come.
    skip: u64,
    /// The line under way.
    line: Vec<u8>,
    kept: Vec<u8>,
    between: bool,
}

/// What a step has found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Step {
    /// Bytes that belong to the value under way.
    pub taken: usize,
    /// Whether the value ends here.
    pub ended: bool,
}

impl Framer {
    pub fn new(side: Side) -> Self {
        Self { side, open: Vec::new(), skip: 0, line: Vec::new(), kept: Vec::new(), between: true }
    }

    /// Whether the next byte begins a value.
    pub fn between(&self) -> bool {
        self.between
    }

    /// The first bytes of the value under way, or of the one that has just ended.
    pub fn kept(&self) -> &[u8] {
        &self.kept
    }

    /// Takes bytes up to the end of the value under way.
    pub fn step(&mut self, bytes: &[u8]) -> Result<Step, Malformed> {
        let mut taken = 0;
        if self.between && !bytes.is_empty() {
            self.between = false;
            self.kept.clear();
        }
        let mut ended = false;
        while taken < bytes.len() && !ended {
            let left = &bytes[taken..];
            if self.skip > 0 {
                let count = left.len().min(usize::try_from(self.skip).unwrap_or(usize::MAX));
                self.skip -= count as u64;
                taken += count;
                ended = self.skip == 0 && self.close_value();
                continue;
            }
            let end = memchr::memchr(b'\n', left).map(|at| at + 1);
            let count = end.unwrap_or(left.len());
            if self.line.len() + count > LONGEST_LINE {
                return Err(Malformed);
            }
            taken += count;
            self.line.extend_from_slice(&left[..count]);
            if end.is_some() {
                let line = std::mem::take(&mut self.line);
                ended = self.read_line(&line)?;
                self.line = line;
                self.line.clear();
            }
        }
        let room = KEPT.saturating_sub(self.kept.len()).min(taken);
        self.kept.extend_from_slice(&bytes[..room]);
        self.between = ended || (self.between && taken == 0);
        Ok(Step { taken, ended })
    }

    /// Whether this line ends the value under way.
    fn read_line(&mut self, line: &[u8]) -> Result<bool, Malformed> {
        if self.side == Side::App && self.open.is_empty() && line.first() != Some(&b'*') {
            // An inline command.
            return Ok(true);
        }
        let text = line.strip_suffix(b"\r\n").ok_or(Malformed)?;
        let (kind, text) = text.split_first().ok_or(Malformed)?;
        if self.side == Side::App && !self.open.is_empty() && *kind != b'$' {
            return Err(Malformed);
        }
        match kind {
            b'+' | b'-' | b':' | b'_' | b'#' | b',' | b'(' => Ok(self.close_value()),
            b'$' | b'!' | b'=' => match length(text)? {
                None => Ok(self.close_value()),
                Some(length) if length <= LONGEST_BULK => {
                    self.skip = length + 2;
                    Ok(false)
                }
                Some(_) => Err(Malformed),
            },
            b'*' | b'~' | b'>' => self.open_values(length(text)?, 1, 0),
            b'%' => self.open_values(length(text)?, 2, 0),
            // Attributes are a map, and stand before the value that they are about.
            b'|' => self.open_values(length(text)?, 2, 1),
            _ => Err(Malformed),
        }
    }

    fn open_values(&mut self, count: Option<u64>, each: u64, more: u64) -> Result<bool, Malformed> {
        let count = count.unwrap_or(0);
        if count > MOST_PARTS || self.open.len() >= DEEPEST {
            return Err(Malformed);
        }
        match count * each + more {
            0 => Ok(self.close_value()),
            parts => {
                self.open.push(parts);
                Ok(false)
            }
        }
    }

    /// A value is whole; whether the outermost one is.
    fn close_value(&mut self) -> bool {
        while let Some(parts) = self.open.last_mut() {
            *parts -= 1;
            if *parts > 0 {
                return false;
            }
            self.open.pop();
        }
        true
    }
}

/// A length as it stands in a line; None for the null value (-1).
fn length(text: &[u8]) -> Result<Option<u64>, Malformed> {
    if text == b"-1" {
        return Ok(None);
    }
    let digits = (1..=19).contains(&text.len()) && text.iter().all(u8::is_ascii_digit);
    let number =
        std::str::from_utf8(text).ok().filter(|_| digits).and_then(|text| text.parse().ok());
    number.map(Some).ok_or(Malformed)
}

/// The words of a command, as far as these bytes hold them whole: at most so many.
pub fn words(command: &[u8], most: usize) -> Vec<&[u8]> {
    if command.first() != Some(&b'*') {
        let end = memchr::memchr(b'\n', command).unwrap_or(command.len());
        let words = command[..end].split(|byte| byte.is_ascii_whitespace());
        return words.filter(|word| !word.is_empty()).take(most).collect();
    }
    let mut found = Vec::new();
    let mut rest = command;
    let line = |rest: &mut &[u8]| -> Option<u64> {
        let end = memchr::memchr(b'\n', rest)?;
        let text = rest[..end].strip_suffix(b"\r")?.get(1..)?;
        *rest = &rest[end + 1..];
        length(text).ok().flatten()
    };
    let Some(count) = line(&mut rest) else { return found };
    for _ in 0..count.min(most as u64) {
        let Some(length) = line(&mut rest).and_then(|length| usize::try_from(length).ok()) else {
            break;
        };
        let Some(word) = rest.get(..length) else { break };
        found.push(word);
        rest = rest.get(length + 2..).unwrap_or_default();
    }
    found
}

/// The values of an array's text, each with its own bytes; None when this is no whole array.
pub fn parts(array: &[u8]) -> Option<Vec<&[u8]>> {
    values(array, b'*', 1)
}

/// The keys and values of a map's text, in turn; None when this is no whole map.
pub fn members(map: &[u8]) -> Option<Vec<&[u8]>> {
    values(map, b'%', 2)
}

fn values(text: &[u8], kind: u8, each: u64) -> Option<Vec<&[u8]>> {
    if text.first() != Some(&kind) {
        return None;
    }
    let end = memchr::memchr(b'\n', text)? + 1;
    let count = length(text.get(1..end.checked_sub(2)?)?).ok().flatten()?.checked_mul(each)?;
    let mut rest = &text[end..];
    let mut found = Vec::new();
    for _ in 0..count {
        let mut framer = Framer::new(Side::Server);
        let step = framer.step(rest).ok().filter(|step| step.ended)?;
        found.push(&rest[..step.taken]);
        rest = &rest[step.taken..];
    }
    rest.is_empty().then_some(found)
}

/// An array of these values.
pub fn array(parts: &[&[u8]]) -> Bytes {
    let mut bytes = format!("*{}\r\n", parts.len()).into_bytes();
    parts.iter().for_each(|part| bytes.extend_from_slice(part));
    bytes.into()
}

/// A map of these keys and values.
pub fn map(members: &[&[u8]]) -> Bytes {
    let mut bytes = format!("%{}\r\n", members.len() / 2).into_bytes();
    members.iter().for_each(|part| bytes.extend_from_slice(part));
    bytes.into()
}

/// The text of a string.
pub fn string(value: &[u8]) -> Option<&[u8]> {
    let end = memchr::memchr(b'\n', value)?;
    match value.first()? {
        b'+' => value.get(1..end.checked_sub(1)?),
        b'$' => value.get(end + 1..)?.strip_suffix(b"\r\n"),
        _ => None,
    }
}

/// An error: its first word says which.
pub fn error(text: &str) -> Bytes {
    let line: String =
        text.chars().map(|c| if matches!(c, '\r' | '\n') { ' ' } else { c }).collect();
    format!("-{line}\r\n").into()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn ends(side: Side, bytes: &[u8], size: usize) -> Result<Vec<usize>, Malformed> {
        let mut framer = Framer::new(side);
        let (mut at, mut found) = (0, Vec::new());
        for mut piece in bytes.chunks(size) {
            while !piece.is_empty() {
                let step = framer.step(piece)?;
                assert!(step.taken > 0);
                at += step.taken;
                piece = &piece[step.taken..];
                if step.ended {
                    assert!(framer.between());
                    found.push(at);
                }
            }
        }
        Ok(found)
    }

    const VALUES: &[&[u8]] = &[
        b"+OK\r\n",
        b"-LOADING Redis is loading\r\n",
        b":1\r\n",
        b"$-1\r\n",
        b"$0\r\n\r\n",
        b"$4\r\na\r\nb\r\n",
        b"*-1\r\n",
        b"*0\r\n",
        b"*2\r\n*1\r\n:1\r\n$1\r\nx\r\n",
        b"%1\r\n+a\r\n*2\r\n_\r\n#t\r\n",
        b"|1\r\n+ttl\r\n:3\r\n$2\r\nhi\r\n",
        b">3\r\n$7\r\nmessage\r\n$1\r\nc\r\n$1\r\nx\r\n",
        b"~1\r\n,1.5\r\n",
        b"=7\r\ntxt:abc\r\n",
    ];

    #[test]
    fn each_value_ends_where_it_ends() {
        for value in VALUES {
            for size in 1..=value.len() {
                assert_eq!(
                    ends(Side::Server, value, size),
                    Ok(vec![value.len()]),
                    "{value:?} {size}"
                );
            }
        }
    }

    #[test]
    fn commands_are_arrays_or_lines() {
        let bytes = b"*2\r\n$3\r\nGET\r\n$1\r\nk\r\nPING\r\n\r\nget k\n";
        assert_eq!(ends(Side::App, bytes, 3), Ok(vec![20, 26, 28, 34]));
        assert_eq!(words(&bytes[..20], 9), [&b"GET"[..], b"k"]);
        assert_eq!(words(b"get  k\r\n", 1), [&b"get"[..]]);
        assert_eq!(words(&bytes[..15], 9), [&b"GET"[..]], "the rest is not there");
    }

    #[test]
    fn what_is_no_value_is_refused() {
        for wrong in
            [&b"hello\r\n"[..], b"$x\r\n", b"$-2\r\n", b"*99999999999999999999\r\n", b"$5\n"]
        {
            assert_eq!(ends(Side::Server, wrong, 99), Err(Malformed), "{wrong:?}");
        }
        assert_eq!(ends(Side::App, b"*1\r\n:1\r\n", 99), Err(Malformed));
        assert_eq!(ends(Side::Server, &b"*1\r\n".repeat(99), 99), Err(Malformed), "too deep");
        assert_eq!(ends(Side::Server, &[b'+'; 70_000], 99), Err(Malformed), "too long a line");
    }

    #[test]
    fn arrays_come_apart_and_together() {
        let whole = b"*3\r\n:2\r\n$3\r\ndoc\r\n*2\r\n+a\r\n+b\r\n";
        let split = parts(whole).unwrap();
        assert_eq!(split.len(), 3);
        assert_eq!(array(&split), &whole[..]);
        assert_eq!(parts(b"$1\r\nx\r\n"), None);
        assert_eq!(parts(b"*2\r\n:1\r\n"), None);
    }

    proptest! {
        #[test]
        fn cuts_change_nothing(which in prop::collection::vec(0..VALUES.len(), 0..12), size in 1..30usize) {
            let bytes: Vec<u8> = which.iter().flat_map(|at| VALUES[*at].to_vec()).collect();
            let mut at = 0;
            let expected: Vec<usize> = which.iter().map(|it| { at += VALUES[*it].len(); at }).collect();
            prop_assert_eq!(ends(Side::Server, &bytes, size), Ok(expected));
        }

        #[test]
        fn no_bytes_panic(bytes in prop::collection::vec(any::<u8>(), 0..80)) {
            let _ = ends(Side::Server, &bytes, 7);
            let _ = ends(Side::App, &bytes, 7);
            let _ = words(&bytes, 9);
            let _ = parts(&bytes);
            let _ = members(&bytes);
            let _ = string(&bytes);
        }
    }
}
