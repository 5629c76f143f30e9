//! The frame of HTTP/1.1 messages: where a head ends, how the body behind it is framed, and which
//! lines concern the connection alone. It looks and never copies or changes a byte.
//!
//! Requests are read strictly: whatever two parsers could understand differently is `Unusual`.
//! Answers come from a dependency that was chosen, and pass as far as they can be framed at all.

mod body;
#[cfg(test)]
mod tests;

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
/// A longer target is unusual.
const LONGEST_TARGET: usize = 8 << 10;

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
    let plain = target.starts_with('/') && target.len() <= LONGEST_TARGET && method != "CONNECT";
    if !whole || parsed.version != Some(1) || !plain {
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
            Some(Special::Te) if line.value.eq_ignore_ascii_case(b"trailers") => {}
            Some(Special::Te) => return Err(Unusual::Special),
            Some(Special::Expect | Special::Upgrade) => return Err(Unusual::Special),
            Some(Special::ContentLength) => {
                let this = plain_number(line.value).ok_or(Unusual::Framing)?;
                if this > i64::MAX as u64 || chunked || length.replace(this).is_some() {
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
    let (Some(status @ 100..), Some(version)) = (parsed.code, parsed.version) else {
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
