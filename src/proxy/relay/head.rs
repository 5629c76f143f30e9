//! Heads as they go on: the bytes that came, but for what belongs to one connection and for what
//! names the upstream. The rules are those of `proxy::headers`.

use std::time::Duration;

use memchr::memchr;

use crate::dialect;
use crate::net::Origin;
use crate::net::head::name_of;
use crate::proxy::call::{RETRY_AFTER_MS, retry_after_of};
use crate::proxy::headers::{is_fixed, is_hop};
use crate::wire::http1::{self, BadAnswer, words};

/// The head for the upstream, with the first part of the body behind it.
pub(super) fn request(
    head: &[u8],
    asked: &http1::Request<'_>,
    origin: &Origin,
    body: &[u8],
) -> Vec<u8> {
    let (base, authority) = (origin.base().as_bytes(), origin.authority().as_bytes());
    let room = head.len() + base.len() + authority.len() + 4 + body.len();
    let mut out = Vec::with_capacity(room);
    let target = asked.method.len() + 1;
    out.extend_from_slice(&head[..target]);
    out.extend_from_slice(base);
    let host = &head[asked.host.clone()];
    push(&mut out, &head[target..asked.host.start], asked.hop);
    out.extend_from_slice(name_of(host));
    out.extend_from_slice(b": ");
    out.extend_from_slice(authority);
    out.extend_from_slice(b"\r\n");
    push(&mut out, &head[asked.host.end..], asked.hop);
    out.extend_from_slice(body);
    out
}

/// Adds lines; if there are `hop` lines among them, all others.
fn push(out: &mut Vec<u8>, bytes: &[u8], hop: bool) {
    if !hop {
        return out.extend_from_slice(bytes);
    }
    for line in lines(bytes) {
        if !is_hop(name_of(line)) {
            out.extend_from_slice(line);
        }
    }
}

/// What the relay reads in an answer's head beside its framing.
pub(super) struct Answer<'a> {
    pub(super) framed: http1::Answer,
    retry_after: Option<&'a [u8]>,
    retry_after_ms: Option<&'a [u8]>,
}

impl<'a> Answer<'a> {
    pub(super) fn read(head: &'a [u8], to_head: bool) -> Result<Self, BadAnswer> {
        let (mut retry_after, mut retry_after_ms) = (None, None);
        let framed = http1::answer(head, to_head, |name, value| match name.len() {
            11 if name.eq_ignore_ascii_case("retry-after") => {
                retry_after.get_or_insert(value);
            }
            14 if name.eq_ignore_ascii_case(RETRY_AFTER_MS) => {
                retry_after_ms.get_or_insert(value);
            }
            _ => {}
        })?;
        Ok(Self { framed, retry_after, retry_after_ms })
    }

    pub(super) fn retry_after(&self) -> Option<Duration> {
        match self.framed.status {
            200..300 => None,
            _ => retry_after_of(self.retry_after_ms, self.retry_after),
        }
    }
}

/// The head for the app. `last`: the connection ends behind it.
pub(super) fn answer(head: &[u8], framed: &http1::Answer, last: bool) -> Vec<u8> {
    let mut out = Vec::with_capacity(head.len() + 32);
    let named: Vec<&[u8]> = lines(head)
        .filter(|line| name_of(line).eq_ignore_ascii_case(b"connection"))
        .flat_map(|line| words(&line[name_of(line).len() + 1..]))
        .filter(|word| !is_fixed(word))
        .collect();
    for (place, line) in lines(head).enumerate() {
        let text = line.strip_suffix(b"\n").unwrap_or(line);
        let text = text.strip_suffix(b"\r").unwrap_or(text);
        let name = name_of(text);
        if place == 0 {
            out.extend_from_slice(b"HTTP/1.1");
            out.extend_from_slice(text.get(8..).unwrap_or_default());
        } else if text.is_empty() {
            if last {
                out.extend_from_slice(b"connection: close\r\n");
            }
        } else if is_hop(name)
            || named.iter().any(|word| word.eq_ignore_ascii_case(name))
            || framed.doubtful && name.eq_ignore_ascii_case(b"content-length")
        {
            continue;
        } else {
            out.extend_from_slice(text);
        }
        out.extend_from_slice(b"\r\n");
    }
    out
}

/// The head of an answer that we make up.
pub(super) fn made(told: &dialect::Answer, last: bool) -> Vec<u8> {
    let reason = told.status.canonical_reason().unwrap_or_default();
    let mut head = format!("HTTP/1.1 {} {reason}\r\n", told.status.as_str());
    for (name, value) in &told.headers {
        head.extend([name, ": ", value, "\r\n"]);
    }
    head.push_str(&format!("content-length: {}\r\n", told.body.len()));
    if last {
        head.push_str("connection: close\r\n");
    }
    head.push_str("\r\n");
    head.into_bytes()
}

/// Lines with their ends.
fn lines(bytes: &[u8]) -> impl Iterator<Item = &[u8]> {
    let mut rest = bytes;
    std::iter::from_fn(move || {
        let end = memchr(b'\n', rest)? + 1;
        let (line, after) = rest.split_at(end);
        rest = after;
        Some(line)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(origin: &str, head: &str) -> String {
        let origin = Origin::new(&origin.parse().unwrap()).unwrap();
        let read = http1::request(head.as_bytes(), |_, _| {}).unwrap();
        String::from_utf8(request(head.as_bytes(), &read, &origin, b"body")).unwrap()
    }

    #[test]
    fn a_request_keeps_all_but_host_and_what_is_for_the_connection() {
        let head = "GET /a HTTP/1.1\r\nX-Dup:1\r\nhOsT:  app \r\nx-dup:  2\r\nTE: trailers\r\n\r\n";
        let passed = head.replace("hOsT:  app ", "hOsT: up:1");
        assert_eq!(asked("http://up:1", head), format!("{passed}body"));
        let head = "GET /a HTTP/1.1\r\nKeep-Alive: 5\r\nHost: app\r\nConnection: close\r\nA: 1\r\nProxy-X: 1\r\n\r\n";
        let passed = "GET /v1/a HTTP/1.1\r\nHost: up\r\nA: 1\r\n\r\nbody";
        assert_eq!(asked("http://up/v1/", head), passed);
    }

    #[test]
    fn an_answer_keeps_all_but_what_is_for_the_connection() {
        let answered = |head: &str, last| {
            let read = Answer::read(head.as_bytes(), false).unwrap();
            String::from_utf8(answer(head.as_bytes(), &read.framed, last)).unwrap()
        };
        let head = "HTTP/1.0 200 Very Fine\r\nA:1\nConnection: x-mine, Content-Length\r\nX-Mine: 1\r\nUpgrade: h2c\r\nContent-Length: 3\r\na: 2\r\n\r\n";
        let passed = "HTTP/1.1 200 Very Fine\r\nA:1\r\nContent-Length: 3\r\na: 2\r\n";
        assert_eq!(answered(head, false), format!("{passed}\r\n"));
        assert_eq!(answered(head, true), format!("{passed}connection: close\r\n\r\n"));
        let both = "HTTP/1.1 200 OK\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n";
        assert_eq!(answered(both, false), both.replace("Content-Length: 3\r\n", ""));
    }

    #[test]
    fn an_answer_says_when_to_come_again_unless_it_is_a_success() {
        let wait = |status: &str| {
            let head = format!("HTTP/1.1 {status}\r\nRetry-After: 3\r\nContent-Length: 0\r\n\r\n");
            Answer::read(head.as_bytes(), false).unwrap().retry_after()
        };
        assert_eq!(wait("429 Slow Down"), Some(Duration::from_secs(3)));
        assert_eq!(wait("200 OK"), None);
    }
}
