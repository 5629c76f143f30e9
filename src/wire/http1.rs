//! The frame of HTTP/1.1 messages: where a head ends, how the body behind it is framed, and which
//! lines concern the connection alone. It looks and never copies or changes a byte.
//!
//! Requests are read strictly: whatever two parsers could understand differently is `Unusual`.
//! Answers come from a dependency that was chosen, and pass as far as they can be framed at all.

mod body;

use std::mem::MaybeUninit;
use std::ops::Range;

use memchr::memchr;

pub use self::body::{BadBody, Body, Taken};
use super::strict;

/// A longer head of a request is unusual.
pub const LONGEST_REQUEST: usize = 32 << 10;
/// A longer head of an answer is refused.
pub const LONGEST_ANSWER: usize = 256 << 10;
/// As many header lines as a head may have.
const MOST_LINES: usize = 100;

/// How the bytes behind a head are framed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Framing {
    Chunked,
    /// This many bytes; 0 without a body.
    Length(u64),
    /// All that comes until the connection ends.
    UntilClose,
}

/// A request that is not read here: it is wrong, or two readers could take it for two things.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum Unusual {
    #[error("a line does not end with CR LF")]
    LineEnd,
    #[error("the head is too long")]
    Long,
    #[error("{0}")]
    Malformed(#[from] httparse::Error),
    #[error("it asks for more than a plain exchange")]
    Special,
    #[error("its framing has more than one reading")]
    Framing,
}

/// An answer that cannot be framed.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum BadAnswer {
    #[error("it begins with a blank line")]
    Blank,
    #[error("its head is too long")]
    Long,
    #[error("{0}")]
    Malformed(#[from] httparse::Error),
    #[error("its content-length has more than one reading")]
    Length,
    #[error("it changes the protocol unasked")]
    Switches,
}

/// Looks for the end of a request's head. `searched` is kept between calls on a growing head.
pub fn request_end(bytes: &[u8], searched: &mut usize) -> Result<Option<usize>, Unusual> {
    while let Some(length) = memchr(b'\n', &bytes[*searched..]) {
        let line = &bytes[*searched..*searched + length];
        let text = line.strip_suffix(b"\r").ok_or(Unusual::LineEnd)?;
        let first = *searched == 0;
        *searched += length + 1;
        if text.is_empty() {
            return if first { Err(Unusual::LineEnd) } else { Ok(Some(*searched)) };
        }
    }
    if bytes.len() > LONGEST_REQUEST {
        return Err(Unusual::Long);
    }
    if *searched == 0 {
        // Other protocols are told by their first bytes; their lines may never end.
        let mut lines = [const { MaybeUninit::uninit() }; 1];
        httparse::Request::new(&mut []).parse_with_uninit_headers(bytes, &mut lines)?;
    }
    Ok(None)
}

/// Looks for the end of an answer's head.
pub fn answer_end(bytes: &[u8], searched: &mut usize) -> Result<Option<usize>, BadAnswer> {
    while let Some(length) = memchr(b'\n', &bytes[*searched..]) {
        let first = *searched == 0;
        let line = &bytes[*searched..*searched + length];
        *searched += length + 1;
        if matches!(line, b"" | b"\r") {
            return if first { Err(BadAnswer::Blank) } else { Ok(Some(*searched)) };
        }
        if first && !line.starts_with(b"HTTP/1.") {
            return Err(BadAnswer::Malformed(httparse::Error::Version));
        }
    }
    if *searched == 0 {
        let mut lines = [const { MaybeUninit::uninit() }; 1];
        let config = httparse::ParserConfig::default();
        let mut answer = httparse::Response::new(&mut []);
        config.parse_response_with_uninit_headers(&mut answer, bytes, &mut lines)?;
    }
    if bytes.len() > LONGEST_ANSWER { Err(BadAnswer::Long) } else { Ok(None) }
}

/// The head of a request.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Request<'a> {
    pub method: &'a str,
    /// Begins with `/`.
    pub target: &'a str,
    /// Where the `Host` line is, with its end.
    pub host: Range<usize>,
    pub framing: Framing,
    /// The connection ends behind the answer.
    pub close: bool,
    /// There are lines for the connection alone.
    pub hop: bool,
}

/// Reads a whole head and shows each line to `see`.
pub fn request<'a>(
    head: &'a [u8],
    mut see: impl FnMut(&'a str, &'a [u8]),
) -> Result<Request<'a>, Unusual> {
    let mut lines = [const { MaybeUninit::uninit() }; MOST_LINES];
    let mut parsed = httparse::Request::new(&mut []);
    let read = parsed.parse_with_uninit_headers(head, &mut lines)?;
    let (Some(method), Some(target)) = (parsed.method, parsed.path) else {
        return Err(Unusual::Special);
    };
    // A blank line before the last one would end the head early.
    let whole = read == httparse::Status::Complete(head.len());
    if !whole || parsed.version != Some(1) || !target.starts_with('/') || method == "CONNECT" {
        return Err(Unusual::Special);
    }
    let mut host = None;
    let mut length = None;
    let mut chunked = false;
    let (mut close, mut hop) = (false, false);
    for line in &*parsed.headers {
        match special(line.name) {
            None => {}
            Some(Special::Host) => {
                let start = offset(head, line.name.as_bytes());
                let end = offset(head, line.value) + line.value.len();
                let end = end + memchr(b'\n', &head[end..]).map_or(0, |at| at + 1);
                let doubtful = line.value.is_empty() || !strict::is_host(line.value);
                if doubtful || host.replace(start..end).is_some() {
                    return Err(Unusual::Special);
                }
            }
            Some(Special::Te) => {
                if !line.value.eq_ignore_ascii_case(b"trailers") {
                    return Err(Unusual::Special);
                }
            }
            Some(Special::Expect | Special::Upgrade) => return Err(Unusual::Special),
            Some(Special::ContentLength) => {
                let this = plain_number(line.value).ok_or(Unusual::Framing)?;
                if chunked || length.replace(this).is_some() {
                    return Err(Unusual::Framing);
                }
            }
            Some(Special::TransferEncoding) => {
                let is_chunked = line.value.eq_ignore_ascii_case(b"chunked");
                if !is_chunked || length.is_some() || std::mem::replace(&mut chunked, true) {
                    return Err(Unusual::Framing);
                }
            }
            Some(Special::Connection) => {
                hop = true;
                for word in words(line.value) {
                    match word {
                        word if word.eq_ignore_ascii_case(b"close") => close = true,
                        word if word.eq_ignore_ascii_case(b"keep-alive") => {}
                        _ => return Err(Unusual::Special),
                    }
                }
            }
            Some(Special::Hop) => hop = true,
        }
        see(line.name, line.value);
    }
    let framing = if chunked { Framing::Chunked } else { Framing::Length(length.unwrap_or(0)) };
    let host = host.ok_or(Unusual::Special)?;
    Ok(Request { method, target, host, framing, close, hop })
}

/// The head of an answer.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Answer {
    pub status: u16,
    pub framing: Framing,
    /// The connection may be used again, as far as this answer says.
    pub keep: bool,
    /// The head can go on byte for byte.
    pub plain: bool,
    /// Its chunks count, not its `Content-Length`.
    pub doubtful: bool,
}

impl Answer {
    /// Whether another answer follows.
    pub fn is_interim(&self) -> bool {
        self.status < 200
    }
}

/// Reads a whole head and shows each line to `see`. `to_head`: the request was a `HEAD`.
pub fn answer<'a>(
    head: &'a [u8],
    to_head: bool,
    mut see: impl FnMut(&'a str, &'a [u8]),
) -> Result<Answer, BadAnswer> {
    let mut lines = [const { MaybeUninit::uninit() }; MOST_LINES];
    let mut parsed = httparse::Response::new(&mut []);
    httparse::ParserConfig::default().parse_response_with_uninit_headers(
        &mut parsed,
        head,
        &mut lines,
    )?;
    let (Some(status), Some(version)) = (parsed.code, parsed.version) else {
        return Err(BadAnswer::Malformed(httparse::Error::Status));
    };
    let mut length = None;
    let mut coded = None;
    let mut lengths_differ = false;
    let (mut close, mut kept, mut hop) = (false, false, false);
    for line in &*parsed.headers {
        match special(line.name) {
            Some(Special::ContentLength) => {
                for word in words(line.value) {
                    let this = plain_number(word).ok_or(BadAnswer::Length)?;
                    lengths_differ |= length.replace(this).is_some_and(|before| before != this);
                }
            }
            Some(Special::TransferEncoding) => {
                let last = words(line.value).last().unwrap_or_default();
                coded = Some(last.eq_ignore_ascii_case(b"chunked"));
            }
            Some(Special::Connection) => {
                hop = true;
                close |= words(line.value).any(|word| word.eq_ignore_ascii_case(b"close"));
                kept |= words(line.value).any(|word| word.eq_ignore_ascii_case(b"keep-alive"));
            }
            Some(Special::Hop | Special::Upgrade) => hop = true,
            Some(Special::Expect | Special::Host | Special::Te) | None => {}
        }
        see(line.name, line.value);
    }
    if status == 101 {
        return Err(BadAnswer::Switches);
    }
    let framing = match coded {
        _ if to_head || status < 200 || matches!(status, 204 | 304) => Framing::Length(0),
        Some(true) if version == 1 => Framing::Chunked,
        Some(_) => Framing::UntilClose,
        None if lengths_differ => return Err(BadAnswer::Length),
        None => length.map_or(Framing::UntilClose, Framing::Length),
    };
    // Coded and counted at once is a sign of somebody else's bytes behind it.
    let doubtful = coded.is_some() && length.is_some();
    let keep = !close && (version == 1 || kept) && !doubtful && framing != Framing::UntilClose;
    let plain = version == 1 && !hop && !doubtful && ends_with_cr_lf(head);
    Ok(Answer { status, framing, keep, plain, doubtful })
}

/// Lines that say something about the message or its connection.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Special {
    Connection,
    ContentLength,
    Expect,
    /// For the connection alone.
    Hop,
    Host,
    Te,
    TransferEncoding,
    Upgrade,
}

fn special(name: &str) -> Option<Special> {
    let named = |known: &str, special| name.eq_ignore_ascii_case(known).then_some(special);
    let special = match name.len() {
        2 => named("te", Special::Te),
        4 => named("host", Special::Host),
        6 => named("expect", Special::Expect),
        7 => named("upgrade", Special::Upgrade),
        10 => named("connection", Special::Connection).or(named("keep-alive", Special::Hop)),
        14 => named("content-length", Special::ContentLength),
        17 => named("transfer-encoding", Special::TransferEncoding),
        _ => None,
    };
    let start = name.as_bytes().get(..6);
    special.or_else(|| start?.eq_ignore_ascii_case(b"proxy-").then_some(Special::Hop))
}

/// Digits alone: no sign, no space, no list.
fn plain_number(value: &[u8]) -> Option<u64> {
    let plain = !value.is_empty() && value.iter().all(u8::is_ascii_digit);
    std::str::from_utf8(value).ok().filter(|_| plain)?.parse().ok()
}

/// The words of a comma-separated list.
pub fn words(list: &[u8]) -> impl Iterator<Item = &[u8]> {
    list.split(|byte| *byte == b',').map(<[u8]>::trim_ascii).filter(|word| !word.is_empty())
}

/// Where a part of the head stands in it.
fn offset(head: &[u8], part: &[u8]) -> usize {
    part.as_ptr().addr() - head.as_ptr().addr()
}

fn ends_with_cr_lf(head: &[u8]) -> bool {
    memchr::memchr_iter(b'\n', head).all(|at| at > 0 && head[at - 1] == b'\r')
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn read(text: &str) -> Result<(Framing, bool, bool), Unusual> {
        let end = request_end(text.as_bytes(), &mut 0)?.expect("a whole head");
        let request = request(&text.as_bytes()[..end], |_, _| {})?;
        Ok((request.framing, request.close, request.hop))
    }

    fn with(lines: &str) -> Result<(Framing, bool, bool), Unusual> {
        read(&format!("POST /a HTTP/1.1\r\nHost: x\r\n{lines}\r\n"))
    }

    #[test]
    fn plain_requests_are_read() {
        let plain = |framing| Ok((framing, false, false));
        assert_eq!(with(""), plain(Framing::Length(0)));
        assert_eq!(with("content-LENGTH:  12 \r\n"), plain(Framing::Length(12)));
        assert_eq!(with("Transfer-Encoding: Chunked\r\n"), plain(Framing::Chunked));
        assert_eq!(with("TE: trailers\r\nX:1\r\n"), plain(Framing::Length(0)));
        let closing = with("Connection: keep-alive, Close\r\n");
        assert_eq!(closing, Ok((Framing::Length(0), true, true)));
        assert_eq!(with("Proxy-Anything: 1\r\n"), Ok((Framing::Length(0), false, true)));
        let head = b"GET /p?q HTTP/1.1\r\nA: 1\r\nhOST:x:1 \r\nB: 2\r\n\r\n";
        let mut seen = Vec::new();
        let asked = request(head, |name, value| seen.push((name, value))).unwrap();
        assert_eq!((asked.method, asked.target), ("GET", "/p?q"));
        assert_eq!(&head[asked.host], b"hOST:x:1 \r\n");
        assert_eq!(seen, [("A", &b"1"[..]), ("hOST", b"x:1"), ("B", b"2")]);
    }

    #[test]
    fn what_has_two_readings_is_left_to_others() {
        for lines in [
            "Content-Length: 1\r\nTransfer-Encoding: chunked\r\n",
            "Transfer-Encoding: chunked\r\nContent-Length: 1\r\n",
            "Content-Length: 1\r\nContent-Length: 1\r\n",
            "Content-Length: 1, 1\r\n",
            "Content-Length: +1\r\n",
            "Content-Length: 0x1\r\n",
            "Content-Length: 1 1\r\n",
            "Content-Length:\r\n",
            "Content-Length: 99999999999999999999\r\n",
            "Transfer-Encoding: gzip, chunked\r\n",
            "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n",
            "Transfer-Encoding: \"chunked\"\r\n",
            "Transfer-Encoding: chunked;a=b\r\n",
            "Transfer-Encoding: identity\r\n",
            "Transfer-Encoding:\x0bchunked\r\n",
            "Transfer-Encoding : chunked\r\n",
            "Content-Length : 1\r\n",
            " Content-Length: 1\r\n",
            "X: a\r\n folded\r\n",
            "X: a\rContent-Length: 1\r\n",
            "X: a\nContent-Length: 1\r\n",
            "X: a\n\nGET / HTTP/1.1\r\n",
            "X: \0\r\n",
            "no colon\r\n",
            ": no name\r\n",
            "Host: y\r\n",
            "Expect: 100-continue\r\n",
            "Upgrade: h2c\r\n",
            "Connection: X\r\n",
            "TE: gzip\r\n",
        ] {
            assert!(with(lines).is_err(), "{lines:?} => {:?}", with(lines));
        }
        for text in [
            "GET / HTTP/1.0\r\nHost: x\r\n\r\n",
            "GET / HTTP/1.1\r\n\r\n",
            "GET http://x/ HTTP/1.1\r\nHost: x\r\n\r\n",
            "OPTIONS * HTTP/1.1\r\nHost: x\r\n\r\n",
            "CONNECT x:1 HTTP/1.1\r\nHost: x\r\n\r\n",
            "GET  / HTTP/1.1\r\nHost: x\r\n\r\n",
            "GET /\r\nHost: x\r\n\r\n",
            "\r\nGET / HTTP/1.1\r\nHost: x\r\n\r\n",
            "PRI * HTTP/2.0\r\n\r\n",
        ] {
            assert!(read(text).is_err(), "{text:?}");
        }
    }

    #[test]
    fn other_protocols_are_told_by_their_first_bytes() {
        for bytes in [&b"\x16\x03\x01\x02\x00\x01"[..], b"SSH-2.0-x\n", b"GET /\0", b"\0\0\0\x08"] {
            assert!(request_end(bytes, &mut 0).is_err(), "{bytes:?}");
        }
        for bytes in [&b"G"[..], b"GET /long", b"GET / HTTP/1.1\r", b"PRI"] {
            assert_eq!(request_end(bytes, &mut 0), Ok(None), "{bytes:?}");
        }
        let long = format!("GET / HTTP/1.1\r\nX: {}", "x".repeat(LONGEST_REQUEST));
        assert_eq!(request_end(long.as_bytes(), &mut 0), Err(Unusual::Long));
    }

    fn answered(lines: &str) -> Result<(Framing, bool, bool), BadAnswer> {
        let text = format!("HTTP/1.1 200 OK\r\n{lines}\r\n");
        let end = answer_end(text.as_bytes(), &mut 0)?.expect("a whole head");
        let answer = answer(&text.as_bytes()[..end], false, |_, _| {})?;
        Ok((answer.framing, answer.keep, answer.plain))
    }

    #[test]
    fn answers_are_framed_as_far_as_they_can_be() {
        assert_eq!(answered("Content-Length: 3\r\n"), Ok((Framing::Length(3), true, true)));
        let twice = answered("Content-Length: 3\r\ncontent-length: 3, 3\r\n");
        assert_eq!(twice, Ok((Framing::Length(3), true, true)));
        assert_eq!(
            answered("transfer-encoding: x, chunked\r\n"),
            Ok((Framing::Chunked, true, true))
        );
        assert_eq!(answered(""), Ok((Framing::UntilClose, false, true)));
        assert_eq!(answered("Transfer-Encoding: gzip\r\n"), Ok((Framing::UntilClose, false, true)));
        let both = answered("Content-Length: 3\r\nTransfer-Encoding: chunked\r\n");
        assert_eq!(both, Ok((Framing::Chunked, false, false)));
        let closing = answered("Content-Length: 3\r\nConnection: x, close\r\n");
        assert_eq!(closing, Ok((Framing::Length(3), false, false)));
        assert_eq!(answered("Content-Length: 3\n"), Ok((Framing::Length(3), true, false)));
        assert_eq!(answered("Content-Length: 3\r\nContent-Length: 4\r\n"), Err(BadAnswer::Length));
        assert_eq!(answered("Content-Length: -3\r\n"), Err(BadAnswer::Length));
        assert!(answered("X: a\r\n folded\r\n").is_err());
        assert!(answer_end(b"SSH-2.0-x\r\n", &mut 0).is_err());
        assert!(answer_end(b"SSH", &mut 0).is_err());
    }

    #[test]
    fn some_answers_have_no_body() {
        let of = |first: &str, to_head| {
            let text = format!("{first}\r\nContent-Length: 5\r\n\r\n");
            let answer = answer(text.as_bytes(), to_head, |_, _| {}).unwrap();
            (answer.framing, answer.is_interim())
        };
        assert_eq!(of("HTTP/1.1 200 OK", true), (Framing::Length(0), false));
        assert_eq!(of("HTTP/1.1 204 No Content", false), (Framing::Length(0), false));
        assert_eq!(of("HTTP/1.1 304", false), (Framing::Length(0), false));
        assert_eq!(of("HTTP/1.1 103 Early Hints", false), (Framing::Length(0), true));
        assert_eq!(of("HTTP/1.1 200 OK", false), (Framing::Length(5), false));
        let old =
            answer(b"HTTP/1.0 200 OK\r\nContent-Length: 5\r\n\r\n", false, |_, _| {}).unwrap();
        assert_eq!((old.keep, old.plain), (false, false));
    }

    proptest! {
        #[test]
        fn any_split_finds_the_same_end(
            text in "(GET|P) /[a-z]{0,9} HTTP/1.1\r\n([A-Za-z:\r\n ]{0,30}|(Host|X): [a-z]{0,9}\r\n){0,5}(\r\n)?.{0,9}",
            cut in any::<prop::sample::Index>(),
        ) {
            let bytes = text.as_bytes();
            let whole = request_end(bytes, &mut 0);
            let mut searched = 0;
            let split = match request_end(&bytes[..cut.index(bytes.len() + 1)], &mut searched) {
                Ok(None) => request_end(bytes, &mut searched),
                found => found,
            };
            match (split, whole) {
                // What is refused early would not be taken later.
                (Err(_), Ok(Some(end))) => {
                    let later = request(&bytes[..end], |_, _| {}).is_err();
                    prop_assert!(later);
                }
                (Err(_), _) => {}
                (split, whole) => prop_assert_eq!(split, whole),
            }
            if let Ok(Some(end)) = whole {
                let _ = request(&bytes[..end], |_, _| {});
            }
        }

        #[test]
        fn any_bytes_are_looked_at_without_panic(bytes in any::<Vec<u8>>()) {
            for end in [request_end(&bytes, &mut 0).ok(), answer_end(&bytes, &mut 0).ok()] {
                let head = &bytes[..end.flatten().unwrap_or(bytes.len())];
                let _ = (request(head, |_, _| {}), answer(head, false, |_, _| {}));
            }
        }
    }
}
