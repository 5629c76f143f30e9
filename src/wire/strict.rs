//! What is refused in the head of a request: whatever two readers could take for two things, and
//! what is too long. It looks and changes nothing.

use memchr::memchr;

/// A longer method is none.
const LONGEST_METHOD: usize = 64;
/// A longer request line is refused with 414.
pub const LONGEST_LINE: usize = 16 << 10;
/// A longer head is refused with 431; nearly all servers refuse half of it.
pub const LONGEST_HEAD: usize = 64 << 10;
/// More header lines are refused with 431.
pub const MOST_LINES: usize = 100;

/// Why a head is refused. The text reads on after "the request is refused:".
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum Refusal {
    #[error("its head was not complete within {0} s")]
    Slow(u64),
    #[error("its first line has more than {LONGEST_LINE} bytes")]
    LongLine,
    #[error("its head has more than {LONGEST_HEAD} bytes")]
    LongHead,
    #[error("its head has more than {MOST_LINES} lines")]
    ManyLines,
    #[error("its first line is not `METHOD TARGET HTTP/1.1`")]
    FirstLine,
    #[error("only HTTP/1.0 and HTTP/1.1 are spoken here")]
    Version,
    #[error("a line of its head does not end with CR LF")]
    LineEnd,
    #[error("a header line is continued on the next (obsolete folding)")]
    Folding,
    #[error("a header line is not `name: value`")]
    Name,
    #[error("a header value has control characters in it")]
    Value,
    #[error("it has no `Host` line")]
    NoHost,
    #[error("it has more than one `Host` line")]
    ManyHosts,
    #[error("its `Host` is no host")]
    BadHost,
    #[error("it has more than one `Content-Length`")]
    ManyLengths,
    #[error("its `Content-Length` is not a plain number")]
    BadLength,
    #[error("its `Transfer-Encoding` is not `chunked`, once, and in HTTP/1.1")]
    Coding,
    #[error("it has both `Content-Length` and `Transfer-Encoding`")]
    TwoFramings,
    #[error("a CONNECT has no body")]
    TunnelBody,
    #[error("its chunks are framed wrong")]
    Chunks,
}

impl Refusal {
    /// The status that says so.
    pub fn status(self) -> u16 {
        match self {
            Self::Slow(_) => 408,
            Self::LongLine => 414,
            Self::LongHead | Self::ManyLines => 431,
            Self::Version => 505,
            _ => 400,
        }
    }
}

/// Checks a head that has not ended yet: whether it is too long already, or no HTTP at all.
pub fn check_part(head: &[u8]) -> Result<(), Refusal> {
    let method = head.iter().take_while(|byte| is_token(**byte)).count();
    match head.get(method) {
        // Other protocols are told by their first bytes; their lines may never end.
        Some(byte) if *byte != b' ' || method == 0 => return Err(Refusal::FirstLine),
        None if method > LONGEST_METHOD => return Err(Refusal::FirstLine),
        _ => {}
    }
    if head.len() <= LONGEST_LINE {
        return Ok(());
    }
    match memchr(b'\n', &head[..=LONGEST_LINE]) {
        None => Err(Refusal::LongLine),
        Some(_) if head.len() > LONGEST_HEAD => Err(Refusal::LongHead),
        Some(_) => Ok(()),
    }
}

/// Checks a whole head, from its first line to its blank one.
pub fn check(head: &[u8]) -> Result<(), Refusal> {
    check_part(head)?;
    let mut lines = Lines(head);
    let request = lines.next().ok_or(Refusal::FirstLine)??;
    let (method, old) = first_line(request)?;
    let mut found = Found::default();
    let mut count = 0;
    for line in lines {
        let line = line?;
        if line.is_empty() {
            continue;
        }
        count += 1;
        if count > MOST_LINES {
            return Err(Refusal::ManyLines);
        }
        if matches!(line[0], b' ' | b'\t') {
            return Err(Refusal::Folding);
        }
        let colon = memchr(b':', line).ok_or(Refusal::Name)?;
        let (name, value) = (&line[..colon], line[colon + 1..].trim_ascii());
        if name.is_empty() || !name.iter().all(|byte| is_token(*byte)) {
            return Err(Refusal::Name);
        }
        if !line[colon..].iter().all(|byte| is_text(*byte)) {
            return Err(Refusal::Value);
        }
        found.see(name, value, old)?;
    }
    found.judge(method, old)
}

/// The method, and whether it is HTTP/1.0.
fn first_line(line: &[u8]) -> Result<(&[u8], bool), Refusal> {
    let mut words = line.split(|byte| *byte == b' ');
    let (Some(method), Some(target), Some(version), None) =
        (words.next(), words.next(), words.next(), words.next())
    else {
        return Err(Refusal::FirstLine);
    };
    let sound = !method.is_empty()
        && method.iter().all(|byte| is_token(*byte))
        && !target.is_empty()
        && target.iter().all(|byte| byte.is_ascii_graphic() || !byte.is_ascii());
    match version {
        _ if !sound => Err(Refusal::FirstLine),
        b"HTTP/1.1" => Ok((method, false)),
        b"HTTP/1.0" => Ok((method, true)),
        [b'H', b'T', b'T', b'P', b'/', b'0'..=b'9', b'.', b'0'..=b'9'] => Err(Refusal::Version),
        _ => Err(Refusal::FirstLine),
    }
}

/// The lines that frame and route.
#[derive(Default)]
struct Found {
    host: bool,
    length: Option<u64>,
    chunked: bool,
}

impl Found {
    fn see(&mut self, name: &[u8], value: &[u8], old: bool) -> Result<(), Refusal> {
        let is = |known: &str| name.eq_ignore_ascii_case(known.as_bytes());
        match name.len() {
            4 if is("host") => {
                if std::mem::replace(&mut self.host, true) {
                    return Err(Refusal::ManyHosts);
                }
                if !is_host(value) {
                    return Err(Refusal::BadHost);
                }
            }
            14 if is("content-length") => {
                let plain = !value.is_empty() && value.iter().all(u8::is_ascii_digit);
                let number = std::str::from_utf8(value).ok().filter(|_| plain);
                let number: u64 =
                    number.and_then(|text| text.parse().ok()).ok_or(Refusal::BadLength)?;
                if number > i64::MAX as u64 {
                    return Err(Refusal::BadLength);
                }
                if self.length.replace(number).is_some() {
                    return Err(Refusal::ManyLengths);
                }
            }
            17 if is("transfer-encoding") => {
                let twice = std::mem::replace(&mut self.chunked, true);
                if twice || old || !value.eq_ignore_ascii_case(b"chunked") {
                    return Err(Refusal::Coding);
                }
            }
            _ => {}
        }
        Ok(())
    }

    fn judge(&self, method: &[u8], old: bool) -> Result<(), Refusal> {
        if !self.host && !old {
            return Err(Refusal::NoHost);
        }
        if self.chunked && self.length.is_some() {
            return Err(Refusal::TwoFramings);
        }
        let body = self.chunked || self.length.is_some_and(|length| length > 0);
        if method == b"CONNECT" && body { Err(Refusal::TunnelBody) } else { Ok(()) }
    }
}

/// Lines without their CR LF.
struct Lines<'a>(&'a [u8]);

impl<'a> Iterator for Lines<'a> {
    type Item = Result<&'a [u8], Refusal>;

    fn next(&mut self) -> Option<Self::Item> {
        let end = memchr(b'\n', self.0)?;
        let line = self.0[..end].strip_suffix(b"\r");
        self.0 = &self.0[end + 1..];
        Some(line.filter(|line| memchr(b'\r', line).is_none()).ok_or(Refusal::LineEnd))
    }
}

/// Whether a `Host` line may say this: a host, perhaps with a port, or nothing.
pub fn is_host(value: &[u8]) -> bool {
    value.iter().all(|byte| {
        byte.is_ascii_graphic() && !matches!(byte, b'/' | b'@' | b',' | b'\\' | b'?' | b'#')
    })
}

fn is_token(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}

fn is_text(byte: u8) -> bool {
    byte == b'\t' || !byte.is_ascii_control()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn of(lines: &str) -> Result<(), Refusal> {
        check(format!("POST /v1/x?a=b HTTP/1.1\r\nHost: h\r\n{lines}\r\n").as_bytes())
    }

    #[test]
    fn what_real_clients_send_passes() {
        for lines in [
            "",
            "Content-Length: 0\r\n",
            "content-length:12\r\nX-A:\r\nX-a: b\tc \r\n",
            "Transfer-Encoding: chunked\r\nTE: trailers\r\nTrailer: x\r\n",
            "X-Utf: h\u{e9}llo\r\nCookie: a=b; c=\"d\"\r\n",
            "Connection: keep-alive, Upgrade\r\nUpgrade: websocket\r\n",
        ] {
            assert_eq!(of(lines), Ok(()), "{lines:?}");
        }
        for head in [
            "GET / HTTP/1.0\r\n\r\n",
            "GET http://h/ HTTP/1.1\r\nHost: other:80\r\n\r\n",
            "OPTIONS * HTTP/1.1\r\nHost:\r\n\r\n",
            "CONNECT [::1]:443 HTTP/1.1\r\nHost: [::1]:443\r\nContent-Length: 0\r\n\r\n",
            "GET /\u{e9} HTTP/1.1\r\nHost: h_x.example\r\n\r\n",
        ] {
            assert_eq!(check(head.as_bytes()), Ok(()), "{head:?}");
        }
    }

    #[test]
    fn what_two_readers_could_take_for_two_things_is_refused() {
        use Refusal::*;
        for (lines, refusal) in [
            ("Content-Length: 3\r\nTransfer-Encoding: chunked\r\n", TwoFramings),
            ("Transfer-Encoding: chunked\r\nContent-Length: 3\r\n", TwoFramings),
            ("Transfer-Encoding: xchunked\r\n", Coding),
            ("Transfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n", Coding),
            ("Transfer-Encoding: gzip, chunked\r\n", Coding),
            ("Transfer-Encoding:\x0bchunked\r\n", Value),
            ("Transfer-Encoding : chunked\r\n", Name),
            (" Transfer-Encoding: chunked\r\n", Folding),
            ("X: y\r\n\tz\r\n", Folding),
            ("Content-Length: 3\r\nContent-Length: 3\r\n", ManyLengths),
            ("Content-Length: 3, 3\r\n", BadLength),
            ("Content-Length: +3\r\n", BadLength),
            ("Content-Length: 0x3\r\n", BadLength),
            ("Content-Length: 3 3\r\n", BadLength),
            ("Content-Length:\r\n", BadLength),
            ("Content-Length: 18446744073709551616\r\n", BadLength),
            ("Content-Length: 9223372036854775808\r\n", BadLength),
            ("X: a\nb: c\r\n", LineEnd),
            ("X: a\rb\r\n", LineEnd),
            ("X: a\0b\r\n", Value),
            ("no colon\r\n", Name),
            (": empty\r\n", Name),
            ("Host: other\r\n", ManyHosts),
        ] {
            assert_eq!(of(lines), Err(refusal), "{lines:?}");
        }
        for (head, refusal) in [
            ("GET / HTTP/1.1\r\n\r\n", NoHost),
            ("GET / HTTP/1.1\r\nHost: a b\r\n\r\n", BadHost),
            ("GET / HTTP/1.1\r\nHost: a@b\r\n\r\n", BadHost),
            ("GET /\r\n\r\n", FirstLine),
            ("GET  / HTTP/1.1\r\nHost: h\r\n\r\n", FirstLine),
            ("GET /a b HTTP/1.1\r\nHost: h\r\n\r\n", FirstLine),
            ("GET /\0 HTTP/1.1\r\nHost: h\r\n\r\n", FirstLine),
            ("GE(T / HTTP/1.1\r\nHost: h\r\n\r\n", FirstLine),
            ("GET / http/1.1\r\nHost: h\r\n\r\n", FirstLine),
            ("GET / HTTP/1.2\r\nHost: h\r\n\r\n", Version),
            ("GET / HTTP/1.1\nHost: h\r\n\r\n", LineEnd),
            ("GET / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n", Coding),
            ("CONNECT h:1 HTTP/1.1\r\nHost: h\r\nContent-Length: 1\r\n\r\n", TunnelBody),
        ] {
            assert_eq!(check(head.as_bytes()), Err(refusal), "{head:?}");
        }
    }

    #[test]
    fn what_is_no_http_is_told_by_its_first_bytes() {
        for part in ["", "G", "GET", "GET /", "GET / HTTP/1.1\r\nHo"] {
            assert_eq!(check_part(part.as_bytes()), Ok(()), "{part}");
        }
        for part in [" ", "\x16\x03\x01", "*1\r", "GET\t/", "\0", &"A".repeat(100)] {
            assert_eq!(check_part(part.as_bytes()), Err(Refusal::FirstLine), "{part}");
        }
    }

    #[test]
    fn heads_have_a_size() {
        assert_eq!(of(&"X: y\r\n".repeat(MOST_LINES - 1)), Ok(()));
        assert_eq!(of(&"X: y\r\n".repeat(MOST_LINES)), Err(Refusal::ManyLines));
        assert_eq!(of(&format!("X: {}\r\n", "y".repeat(60_000))), Ok(()));
        assert_eq!(of(&format!("X: {}\r\n", "y".repeat(100_000))), Err(Refusal::LongHead));
        let line = format!("GET /{}", "x".repeat(LONGEST_LINE));
        assert_eq!(check_part(line.as_bytes()), Err(Refusal::LongLine));
        assert_eq!(check_part(&line.as_bytes()[..LONGEST_LINE]), Ok(()));
        assert_eq!(Refusal::LongLine.status(), 414);
    }

    proptest! {
        #[test]
        fn any_bytes_are_checked_without_panic(bytes in any::<Vec<u8>>()) {
            let _ = check(&bytes);
        }

        #[test]
        fn what_passes_has_one_framing(
            lines in proptest::collection::vec(
                "(?i)(content-length|transfer-encoding|host|x)[ \t]?:[ \t]?(chunked|[0-9]{1,3}|h)?",
                0..4,
            ),
        ) {
            let head = format!("POST / HTTP/1.1\r\n{}\r\n\r\n", lines.join("\r\n"));
            if check(head.as_bytes()).is_ok() {
                let lower = head.to_lowercase();
                let framings = lower.matches("content-length").count()
                    + lower.matches("transfer-encoding").count();
                prop_assert!(framings <= 1 && lower.matches("\r\nhost").count() == 1, "{}", head);
            }
        }
    }
}
