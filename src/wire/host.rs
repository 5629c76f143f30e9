//! For which host a client that speaks HTTP is: read from the beginning of what it sends, without
//! taking anything of it. It never decides whether a request is well formed.

/// What the first bytes say.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Host<'a> {
    /// More bytes are needed.
    Unknown,
    /// This host, with the port if one is written.
    Named(&'a str),
    /// None is named.
    Absent,
    /// A call to a proxy (CONNECT, or a target with a scheme): it is for whom it was addressed to.
    Proxied,
    /// It is no HTTP/1 after all.
    NoHttp,
}

/// The host of the request whose head begins here.
pub fn host(head: &[u8]) -> Host<'_> {
    let mut lines = Lines { rest: head };
    // A client may send empty lines first.
    let request = loop {
        match lines.next() {
            Some(b"") => {}
            Some(line) => break line,
            None => return Host::Unknown,
        }
    };
    let mut words = request.split(|byte| *byte == b' ').filter(|word| !word.is_empty());
    let (Some(method), Some(target), Some(version)) = (words.next(), words.next(), words.next())
    else {
        return Host::NoHttp;
    };
    if !version.starts_with(b"HTTP/1.") {
        return Host::NoHttp;
    }
    let absolute = [&b"http://"[..], b"https://"].iter().any(|scheme| {
        target.get(..scheme.len()).is_some_and(|front| front.eq_ignore_ascii_case(scheme))
    });
    if method == b"CONNECT" || absolute {
        return Host::Proxied;
    }
    loop {
        match lines.next() {
            None => return Host::Unknown,
            Some(b"") => return Host::Absent,
            Some(line) => {
                let Some(colon) = memchr::memchr(b':', line) else { continue };
                if line[..colon].eq_ignore_ascii_case(b"host") {
                    let value = line[colon + 1..].trim_ascii();
                    return match std::str::from_utf8(value) {
                        Ok(host) if !host.is_empty() => Host::Named(host),
                        _ => Host::Absent,
                    };
                }
            }
        }
    }
}

/// Host and port of what stands in a `Host` header, without brackets.
pub fn split(authority: &str) -> (&str, Option<u16>) {
    let (host, port) = match authority.strip_prefix('[').and_then(|six| six.split_once(']')) {
        Some((six, port)) => (six, port.strip_prefix(':')),
        None => match authority.rsplit_once(':') {
            // An address of version 6 that lacks its brackets.
            Some((host, _)) if host.contains(':') => (authority, None),
            Some((host, port)) => (host, Some(port)),
            None => (authority, None),
        },
    };
    (host, port.and_then(|port| port.parse().ok()))
}

/// Whole lines, without their ends.
struct Lines<'a> {
    rest: &'a [u8],
}

impl<'a> Iterator for Lines<'a> {
    type Item = &'a [u8];

    fn next(&mut self) -> Option<&'a [u8]> {
        let end = memchr::memchr(b'\n', self.rest)?;
        let line = &self.rest[..end];
        self.rest = &self.rest[end + 1..];
        Some(line.strip_suffix(b"\r").unwrap_or(line))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_host_is_found_as_soon_as_it_is_there() {
        let head =
            b"GET /v1/x HTTP/1.1\r\nAccept: */*\r\nhOST:  api.example.com:8080 \r\nX: y\r\n\r\n";
        assert_eq!(host(head), Host::Named("api.example.com:8080"));
        let line_end = memchr::memmem::find(head, b" \r\nX").unwrap() + 3;
        for cut in 0..line_end {
            assert_eq!(host(&head[..cut]), Host::Unknown, "{cut}");
        }
        assert_eq!(host(&head[..line_end]), Host::Named("api.example.com:8080"));
    }

    #[test]
    fn what_names_no_host_is_told_apart() {
        for (head, expected) in [
            (&b"GET / HTTP/1.0\r\n\r\n"[..], Host::Absent),
            (b"GET / HTTP/1.1\nHost:\n\n", Host::Absent),
            (b"GET http://a/ HTTP/1.1\r\nHost: a\r\n\r\n", Host::Proxied),
            (b"CONNECT a:443 HTTP/1.1\r\n", Host::Proxied),
            (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", Host::NoHttp),
            (b"PING\r\n", Host::NoHttp),
            (b"\r\nGET / HTTP/1.1\r\nHost: b\r\n", Host::Named("b")),
        ] {
            assert_eq!(host(head), expected, "{:?}", String::from_utf8_lossy(head));
        }
    }

    #[test]
    fn ports_are_taken_off() {
        for (text, expected) in [
            ("a.example", ("a.example", None)),
            ("a:80", ("a", Some(80))),
            ("[::1]:443", ("::1", Some(443))),
            ("[::1]", ("::1", None)),
            ("::1", ("::1", None)),
            ("a:", ("a", None)),
            ("a:99999", ("a", None)),
        ] {
            assert_eq!(split(text), expected, "{text}");
        }
    }

    proptest! {
        /// More bytes never take back what was said.
        #[test]
        fn an_answer_stays(head in "[A-Z]{1,4} [/a:h]{1,9} (HTTP/1.1|X)\r?\n([Hh]ost: ?[a-z.:]{0,5}\r?\n|[a-c]:\r\n){0,4}(\r\n)?", cut in 0usize..60) {
            let bytes = head.as_bytes();
            let early = host(&bytes[..cut.min(bytes.len())]);
            if early != Host::Unknown {
                prop_assert_eq!(early, host(bytes));
            }
        }

        #[test]
        fn no_bytes_are_too_odd(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = host(&bytes);
            let _ = split(&String::from_utf8_lossy(&bytes));
        }
    }
}
