//! The head of a message as it stands on the wire. Hyper's header map keeps neither the case of
//! names nor the order of repeated ones, so heads are passed on as the lines they came in: hyper
//! frames the message, and its head is replaced below it (`socket.rs`).

use std::fmt;
use std::sync::OnceLock;
use std::time::SystemTime;

use http::uri::PathAndQuery;
use http::{HeaderMap, HeaderName, HeaderValue, Request};
use memchr::{memchr, memmem};

/// Heads above this are not kept (hyper refuses them anyway).
const LARGEST: usize = 512 << 10;

/// The lines of a head without the first line, each ended by CRLF, in wire order.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Lines(Vec<u8>);

/// A head as it was read.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct RawHead {
    bytes: Vec<u8>,
    special: u8,
}

/// Lines that say something about the connection or the message's framing.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub enum Special {
    Connection = 1,
    ContentLength = 2,
    Expect = 4,
    Trailer = 8,
    TransferEncoding = 16,
    Upgrade = 32,
}

impl Special {
    /// What a line of this name is, if it is special.
    pub fn of(name: &[u8]) -> Option<Self> {
        let (special, known) = match name.len() {
            6 => (Self::Expect, "expect"),
            7 if name[0].eq_ignore_ascii_case(&b'u') => (Self::Upgrade, "upgrade"),
            7 => (Self::Trailer, "trailer"),
            10 => (Self::Connection, "connection"),
            14 => (Self::ContentLength, "content-length"),
            17 => (Self::TransferEncoding, "transfer-encoding"),
            _ => return None,
        };
        name.eq_ignore_ascii_case(known.as_bytes()).then_some(special)
    }
}

/// How the bytes behind a head are framed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Framing {
    Chunked,
    /// This many bytes; 0 without a body.
    Length(u64),
    /// Only the parser of the body knows.
    Unknown,
}

impl Lines {
    /// Room for this many bytes.
    pub fn with_capacity(bytes: usize) -> Self {
        Self(Vec::with_capacity(bytes))
    }

    /// Adds a line as it came (without its end).
    pub fn push_line(&mut self, line: &[u8]) {
        self.0.extend_from_slice(line);
        self.0.extend_from_slice(b"\r\n");
    }

    /// Adds a line. Bytes that would end it early are left out.
    pub fn push(&mut self, name: &[u8], value: &[u8]) {
        self.0.extend_from_slice(name);
        self.0.extend_from_slice(b": ");
        self.0.extend(value.iter().filter(|byte| !matches!(byte, b'\r' | b'\n' | 0)));
        self.0.extend_from_slice(b"\r\n");
    }

    /// Whether a line of this name (in lower case) is there.
    pub fn contains(&self, name: &str) -> bool {
        lines(&self.0).any(|line| is_named(line, name))
    }

    /// The lines, without their ends.
    pub fn iter(&self) -> impl Iterator<Item = &[u8]> {
        lines(&self.0)
    }
}

impl RawHead {
    /// A head with these lines.
    pub fn from_lines(first: &[u8], lines: &Lines) -> Self {
        Self::new([first, b"\r\n", &lines.0, b"\r\n"].concat())
    }

    fn new(bytes: Vec<u8>) -> Self {
        let mut head = Self { bytes, special: 0 };
        head.special = head
            .lines()
            .filter_map(|line| Special::of(name_of(line)))
            .fold(0, |all, special| all | special as u8);
        head
    }

    /// Whether such a line is there.
    pub fn has(&self, special: Special) -> bool {
        self.special & special as u8 != 0
    }

    /// The head that a map stands for, where the real one was not kept: lower case, repeated names
    /// together.
    pub fn from_map(headers: &HeaderMap) -> Self {
        let mut lines = Lines::default();
        for (name, value) in headers {
            lines.push(name.as_str().as_bytes(), value.as_bytes());
        }
        Self::from_lines(b"", &lines)
    }

    /// Whether this is the head that a request was parsed from, as far as can be told cheaply.
    pub fn is_of<B>(&self, request: &Request<B>) -> bool {
        let (method, uri) = (request.method().as_str(), request.uri());
        let path = uri.path_and_query().map_or("", PathAndQuery::as_str);
        let rest = self.bytes.strip_prefix(method.as_bytes()).and_then(|rest| rest.get(1..));
        let target = rest.unwrap_or_default();
        let target = &target[..memchr(b' ', target).unwrap_or(target.len())];
        let same = match uri.authority() {
            // A gateway may have taken off what stood before it.
            None => target.ends_with(path.strip_prefix('/').unwrap_or(path).as_bytes()),
            Some(_) => !target.is_empty(),
        };
        same && self.lines().count() == request.headers().len()
    }

    /// The header lines, without their ends.
    pub fn lines(&self) -> impl Iterator<Item = &[u8]> {
        let start = memchr(b'\n', &self.bytes).map_or(self.bytes.len(), |at| at + 1);
        lines(&self.bytes[start..])
    }

    /// The request line or status line.
    pub fn first_line(&self) -> &[u8] {
        trim_end(&self.bytes[..memchr(b'\n', &self.bytes).unwrap_or(self.bytes.len())])
    }

    /// All of it, with the blank line.
    pub(super) fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// How many bytes it has.
    pub fn len(&self) -> usize {
        self.bytes.len()
    }

    /// Whether nothing was read.
    pub fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    /// Whether this is a 1xx answer that another one follows.
    pub(super) fn is_interim(&self) -> bool {
        let line = self.first_line();
        line.len() > 11 && line[9] == b'1' && &line[9..12] != b"101"
    }

    /// Whether what follows the request may be no HTTP.
    pub(super) fn may_change_protocol(&self) -> bool {
        self.has(Special::Upgrade) || self.bytes.starts_with(b"CONNECT ")
    }

    /// How the body of a request with this head is framed.
    pub(super) fn request_framing(&self) -> Framing {
        if self.has(Special::TransferEncoding) {
            return match self.may_change_protocol() {
                true => Framing::Unknown,
                false => Framing::Chunked,
            };
        }
        if !self.has(Special::ContentLength) {
            return Framing::Length(0);
        }
        let length = self
            .lines()
            .find(|line| is_named(line, "content-length"))
            .and_then(|line| std::str::from_utf8(value_of(line)).ok()?.parse().ok());
        length.map_or(Framing::Unknown, Framing::Length)
    }
}

impl fmt::Debug for RawHead {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Values may be secrets.
        let names: Vec<_> = self.lines().map(|line| name_of(line).escape_ascii()).collect();
        write!(f, "RawHead({names:?})")
    }
}

impl fmt::Debug for Lines {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<_> = self.iter().map(|line| name_of(line).escape_ascii()).collect();
        write!(f, "Lines({names:?})")
    }
}

fn lines(bytes: &[u8]) -> impl Iterator<Item = &[u8]> {
    let mut rest = bytes;
    std::iter::from_fn(move || {
        let end = memchr(b'\n', rest)?;
        let line = trim_end(&rest[..end]);
        rest = &rest[end + 1..];
        (!line.is_empty()).then_some(line)
    })
}

fn trim_end(line: &[u8]) -> &[u8] {
    line.strip_suffix(b"\r").unwrap_or(line)
}

/// The name of a header line.
pub fn name_of(line: &[u8]) -> &[u8] {
    &line[..memchr(b':', line).unwrap_or(line.len())]
}

/// The value of a header line, without the space around it.
pub fn value_of(line: &[u8]) -> &[u8] {
    memchr(b':', line).map_or(&[][..], |colon| line[colon + 1..].trim_ascii())
}

/// Whether a line has this name (given in lower case).
pub fn is_named(line: &[u8], name: &str) -> bool {
    line.len() > name.len()
        && line[name.len()] == b':'
        && line[..name.len()].eq_ignore_ascii_case(name.as_bytes())
}

/// Finds the end of a head in bytes as they come, and keeps the head.
#[derive(Debug, Default)]
pub(super) struct Scanner {
    bytes: Vec<u8>,
    line: Line,
}

/// What the current line has so far.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
enum Line {
    /// No byte of the head has come.
    #[default]
    BeforeFirst,
    CarriageReturn,
    Nothing,
    Text,
}

impl Scanner {
    /// Whether a head has begun and not ended.
    pub(super) fn has_begun(&self) -> bool {
        !self.bytes.is_empty()
    }

    /// What there is of the head.
    pub(super) fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Looks through new bytes; at the end of the head, says how many of them belong to it.
    pub(super) fn feed(&mut self, new: &[u8]) -> Option<(usize, RawHead)> {
        let mut at = 0;
        if self.line == Line::BeforeFirst {
            // Blank lines before a first line are allowed and ignored.
            at = new.iter().position(|byte| !matches!(byte, b'\r' | b'\n'))?;
            self.line = Line::Text;
        }
        let from = at;
        while let Some(length) = memchr(b'\n', &new[at..]) {
            let line = &new[at..at + length];
            at += length + 1;
            let blank = match self.line {
                Line::Nothing => matches!(line, b"" | b"\r"),
                Line::CarriageReturn => line.is_empty(),
                Line::BeforeFirst | Line::Text => false,
            };
            if blank {
                self.bytes.extend_from_slice(&new[from..at]);
                self.line = Line::BeforeFirst;
                return Some((at, RawHead::new(std::mem::take(&mut self.bytes))));
            }
            self.line = Line::Nothing;
        }
        self.line = match (self.line, &new[at..]) {
            (line, b"") => line,
            (Line::Nothing, b"\r") => Line::CarriageReturn,
            _ => Line::Text,
        };
        if self.bytes.len() < LARGEST {
            self.bytes.extend_from_slice(&new[from..]);
        }
        None
    }
}

/// The name of the line that stands in hyper's head for the real lines.
pub(super) static MARK_NAME: HeaderName = HeaderName::from_static("x-brownout-head");

/// The value of that line: drawn once per process, so that no peer can write it.
pub(super) fn mark_value() -> &'static HeaderValue {
    static VALUE: OnceLock<HeaderValue> = OnceLock::new();
    VALUE.get_or_init(|| {
        use std::hash::{BuildHasher, Hasher, RandomState};
        let mut hasher = RandomState::new().build_hasher();
        hasher.write_u128(SystemTime::UNIX_EPOCH.elapsed().map_or(0, |time| time.as_nanos()));
        let first = hasher.finish();
        let second = RandomState::new().build_hasher().finish();
        HeaderValue::from_str(&format!("{first:016x}{second:016x}"))
            .unwrap_or(HeaderValue::from_static("x"))
    })
}

fn mark_line() -> &'static [u8] {
    static LINE: OnceLock<Vec<u8>> = OnceLock::new();
    LINE.get_or_init(|| {
        [MARK_NAME.as_str().as_bytes(), b": ", mark_value().as_bytes(), b"\r\n"].concat()
    })
}

/// What to write in the place of hyper's header lines.
#[derive(Clone, Debug)]
pub(super) struct Patch {
    pub(super) lines: Lines,
    /// The lines say themselves how the body is framed; else hyper's word on it is kept.
    pub(super) framed: bool,
}

impl Patch {
    /// The bytes with the marked head replaced; None when no marked head is in them.
    pub(super) fn apply(&self, written: &[u8]) -> Option<Vec<u8>> {
        let mark = mark_line();
        // Nearly always the head stands at the start and the mark behind its first line.
        let second = memchr(b'\n', written)? + 1;
        let start = match written[second..].starts_with(mark) {
            true => second,
            false => memmem::find(written, mark)?,
        };
        let after = start + mark.len();
        // The blank line that ends it, or its second half behind the mark.
        let mut end = after;
        while !written[end..].starts_with(b"\r\n") {
            end += memchr(b'\n', &written[end..])? + 1;
        }
        let mut out = Vec::with_capacity(written.len() + self.lines.0.len());
        out.extend_from_slice(&written[..start]);
        out.extend_from_slice(&self.lines.0);
        for line in lines(&written[after..end]) {
            let framing = is_named(line, "content-length") || is_named(line, "transfer-encoding");
            if is_named(line, "connection") || framing && !self.framed {
                out.extend_from_slice(line);
                out.extend_from_slice(b"\r\n");
            }
        }
        out.extend_from_slice(b"\r\n");
        out.extend_from_slice(&written[end + 2..]);
        Some(out)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const HEAD: &[u8] = b"POST /a HTTP/1.1\r\nHost: x\r\nX-Dup:1\r\nB: \r\nx-dUP: 2\r\n\r\n";

    proptest! {
        #[test]
        fn a_head_is_found_however_it_is_split(
            cuts in proptest::collection::vec(0usize..80, 0..6),
            bare in any::<bool>(),
            leading in 0usize..2,
        ) {
            let mut text = String::from_utf8(HEAD.to_vec()).unwrap();
            if bare {
                text = text.replace('\r', "");
            }
            let head = text.clone().into_bytes();
            let bytes = [&b"\r\n".repeat(leading)[..], &head, b"body"].concat();
            let mut cuts: Vec<usize> =
                cuts.into_iter().map(|cut| cut.min(bytes.len())).chain([0, bytes.len()]).collect();
            cuts.sort_unstable();
            let mut scanner = Scanner::default();
            let mut found = None;
            for pair in cuts.windows(2) {
                let part = &bytes[pair[0]..pair[1]];
                if let Some((used, raw)) = scanner.feed(part) {
                    found = Some((pair[0] + used, raw));
                    break;
                }
            }
            let (used, raw) = found.expect("a whole head");
            prop_assert_eq!(&bytes[used..], b"body");
            prop_assert_eq!(&raw.bytes, &head);
            let lines: Vec<&[u8]> = raw.lines().collect();
            prop_assert_eq!(lines, vec![&b"Host: x"[..], b"X-Dup:1", b"B: ", b"x-dUP: 2"]);
        }

        #[test]
        fn any_bytes_are_scanned_without_panic(parts in proptest::collection::vec(any::<Vec<u8>>(), 0..8)) {
            let mut scanner = Scanner::default();
            for part in parts {
                if let Some((used, raw)) = scanner.feed(&part) {
                    prop_assert!(used <= part.len());
                    let _ = (raw.request_framing(), raw.is_interim(), raw.lines().count());
                }
            }
        }
    }

    fn scan(text: &[u8]) -> RawHead {
        Scanner::default().feed(text).expect("a whole head").1
    }

    #[test]
    fn framing_is_read_from_the_lines() {
        assert_eq!(scan(HEAD).request_framing(), Framing::Length(0));
        let with = |line: &str| scan(format!("P / HTTP/1.1\r\n{line}\r\n\r\n").as_bytes());
        assert_eq!(with("Content-LENGTH:  12").request_framing(), Framing::Length(12));
        assert_eq!(with("content-length: x").request_framing(), Framing::Unknown);
        assert_eq!(with("Transfer-Encoding: chunked").request_framing(), Framing::Chunked);
        assert!(scan(b"HTTP/1.1 100 Continue\r\n\r\n").is_interim());
        assert!(!scan(b"HTTP/1.1 101 Switching Protocols\r\n\r\n").is_interim());
        assert!(!scan(b"HTTP/1.1 200\r\n\r\n").is_interim());
    }

    #[test]
    fn a_patch_replaces_the_lines_and_keeps_what_hyper_decides() {
        let mut lines = Lines::default();
        lines.push_line(b"X-A:1");
        lines.push(b"Content-Length", b"3");
        let mark = std::str::from_utf8(mark_line()).unwrap();
        let written = format!(
            "tailHTTP/1.1 200 OK\r\n{mark}content-length: 3\r\nconnection: close\r\n\r\nabc"
        );
        let patched = |framed| {
            let patch = Patch { lines: lines.clone(), framed };
            String::from_utf8(patch.apply(written.as_bytes()).unwrap()).unwrap()
        };
        let want =
            "tailHTTP/1.1 200 OK\r\nX-A:1\r\nContent-Length: 3\r\nconnection: close\r\n\r\nabc";
        assert_eq!(patched(true), want);
        assert!(patched(false).contains("content-length: 3\r\nconnection: close\r\n\r\nabc"));
        let alone = format!("GET / HTTP/1.1\r\n{mark}\r\n");
        let patch = Patch { lines, framed: true };
        assert_eq!(
            patch.apply(alone.as_bytes()).unwrap(),
            b"GET / HTTP/1.1\r\nX-A:1\r\nContent-Length: 3\r\n\r\n"
        );
        assert_eq!(patch.apply(b"no mark here"), None);
    }

    #[test]
    fn a_value_cannot_end_its_line() {
        let mut lines = Lines::default();
        lines.push(b"a", b"x\r\nevil: 1");
        assert_eq!(lines.iter().collect::<Vec<_>>(), [b"a: xevil: 1"]);
    }
}
