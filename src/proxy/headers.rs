//! Which header lines pass from one side to the other. All do, as they stand, but those that HTTP
//! makes a matter of one connection; nothing is added but the upstream's own `Host`.

use http::{HeaderMap, HeaderName, header};

use crate::net::head::{Lines, RawHead, Special, is_named, name_of, value_of};

/// Whether the client asks for another protocol on this connection.
pub(super) fn is_upgrade(raw: &RawHead) -> bool {
    raw.has(Special::Upgrade)
        && raw.has(Special::Connection)
        && raw.lines().any(|line| is_named(line, "connection") && names(value_of(line), "upgrade"))
}

/// The request's lines for the upstream.
pub(super) fn request(raw: &RawHead, headers: &HeaderMap, authority: &str, upgrade: bool) -> Lines {
    let connection = Connection::of(raw, headers, upgrade);
    let chunked = raw.has(Special::TransferEncoding);
    let mut lines = Lines::with_capacity(raw.len() + authority.len() + 8);
    let mut host = false;
    for line in raw.lines() {
        if is_named(line, "host") {
            if !host {
                lines.push(name_of(line), authority.as_bytes());
                host = true;
            }
        } else if is_named(line, "te") {
            if names(value_of(line), "trailers") {
                lines.push(name_of(line), b"trailers");
            }
        } else if is_named(line, "content-length") {
            // What hyper has read is what it will send.
            if let Some(length) = headers.get(header::CONTENT_LENGTH).filter(|_| !chunked) {
                match length.as_bytes() == value_of(line) {
                    true => lines.push_line(line),
                    false => lines.push(name_of(line), length.as_bytes()),
                }
            }
        } else if connection.keeps(line) {
            lines.push_line(line);
        }
    }
    if !host {
        lines.push(b"Host", authority.as_bytes());
    }
    lines
}

/// The answer's lines for the app, and whether they say how its body is framed.
pub(super) fn answer(
    raw: &RawHead,
    headers: &HeaderMap,
    old_client: bool,
    upgrade: bool,
) -> (Lines, bool) {
    let connection = Connection::of(raw, headers, upgrade);
    let chunked = raw.has(Special::TransferEncoding);
    let mut lines = Lines::with_capacity(raw.len());
    let mut framed = false;
    for line in raw.lines() {
        if is_named(line, "transfer-encoding") {
            // HTTP/1.0 has no chunks: the body ends with the connection.
            if !old_client {
                match names(value_of(line), "chunked") {
                    true => lines.push_line(line),
                    false => lines.push_line(&[line, b", chunked"].concat()),
                }
            }
            framed = true;
        } else if is_named(line, "content-length") {
            if !chunked {
                lines.push_line(line);
                framed = true;
            }
        } else if connection.keeps(line) {
            lines.push_line(line);
        }
    }
    (lines, framed)
}

/// The head with the edits that were made to its map: lines whose values stayed keep their bytes
/// and places, changed ones keep name and place, gone ones go, new ones come last.
pub(super) fn reconcile(raw: &RawHead, headers: &HeaderMap) -> RawHead {
    let mut lines = Lines::with_capacity(raw.len());
    let mut seen: Vec<(HeaderName, usize)> = Vec::new();
    for line in raw.lines() {
        let Ok(name) = HeaderName::from_bytes(name_of(line)) else {
            lines.push_line(line);
            continue;
        };
        let place = match seen.iter_mut().find(|(known, _)| *known == name) {
            Some((_, count)) => {
                *count += 1;
                *count - 1
            }
            None => {
                seen.push((name.clone(), 1));
                0
            }
        };
        match headers.get_all(&name).iter().nth(place) {
            Some(value) if value.as_bytes() == value_of(line) => lines.push_line(line),
            Some(value) => lines.push(name_of(line), value.as_bytes()),
            None => {}
        }
    }
    for name in headers.keys() {
        let known = seen.iter().find(|(known, _)| known == name).map_or(0, |(_, count)| *count);
        for value in headers.get_all(name).iter().skip(known) {
            lines.push(name.as_str().as_bytes(), value.as_bytes());
        }
    }
    RawHead::from_lines(raw.first_line(), &lines)
}

/// What belongs to one connection and is not passed on.
struct Connection<'a> {
    headers: Option<&'a HeaderMap>,
    upgrade: bool,
}

impl<'a> Connection<'a> {
    fn of(raw: &RawHead, headers: &'a HeaderMap, upgrade: bool) -> Self {
        let named = raw.has(Special::Connection).then_some(headers);
        Self { headers: named, upgrade }
    }

    fn keeps(&self, line: &[u8]) -> bool {
        let name = name_of(line);
        if self.upgrade
            && (name.eq_ignore_ascii_case(b"connection") || name.eq_ignore_ascii_case(b"upgrade"))
        {
            return true;
        }
        !is_hop(name) && !self.is_named(name)
    }

    /// Whether the `Connection` header names it.
    fn is_named(&self, name: &[u8]) -> bool {
        let Some(headers) = self.headers else { return false };
        let Ok(name) = std::str::from_utf8(name) else { return false };
        !is_fixed(name.as_bytes())
            && headers.get_all(header::CONNECTION).iter().any(|value| names(value.as_bytes(), name))
    }
}

/// Whether a line of this name is always for one connection alone.
pub(super) fn is_hop(name: &[u8]) -> bool {
    let hop: &[u8] = match name.len() {
        7 => b"upgrade",
        10 if name[0].eq_ignore_ascii_case(&b'c') => b"connection",
        10 => b"keep-alive",
        _ => &[],
    };
    name.eq_ignore_ascii_case(hop)
        || name.get(..6).is_some_and(|start| start.eq_ignore_ascii_case(b"proxy-"))
}

/// Whether a `Connection` line cannot name this one, since it frames or routes the message.
pub(super) fn is_fixed(name: &[u8]) -> bool {
    const FIXED: [&str; 4] = ["content-length", "host", "transfer-encoding", "upgrade"];
    FIXED.iter().any(|fixed| fixed.as_bytes().eq_ignore_ascii_case(name))
}

/// Whether a comma-separated list has this word.
fn names(list: &[u8], word: &str) -> bool {
    list.split(|byte| *byte == b',')
        .map(|item| item.split(|byte| *byte == b';').next().unwrap_or_default().trim_ascii())
        .any(|item| item.eq_ignore_ascii_case(word.as_bytes()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn head(lines: &[&str]) -> (RawHead, HeaderMap) {
        let mut all = Lines::default();
        let mut map = HeaderMap::new();
        for line in lines {
            all.push_line(line.as_bytes());
            let name = HeaderName::from_bytes(name_of(line.as_bytes())).unwrap();
            map.append(name, value_of(line.as_bytes()).try_into().unwrap());
        }
        (RawHead::from_lines(b"GET / HTTP/1.1", &all), map)
    }

    fn text(lines: &Lines) -> Vec<&str> {
        lines.iter().map(|line| std::str::from_utf8(line).unwrap()).collect()
    }

    #[test]
    fn lines_pass_as_they_stand() {
        let (raw, map) =
            head(&["X-Dup:1", "hOST: a", "X-Other:  two ", "x-dup: 3", "TE: trailers"]);
        let passed = request(&raw, &map, "up:1", false);
        assert_eq!(
            text(&passed),
            ["X-Dup:1", "hOST: up:1", "X-Other:  two ", "x-dup: 3", "TE: trailers"]
        );
    }

    #[test]
    fn what_belongs_to_the_connection_stays() {
        let (raw, map) = head(&[
            "Host: a",
            "Connection: close, X-Mine, Content-Length",
            "X-Mine: 1",
            "Keep-Alive: timeout=5",
            "Proxy-Auth: 1",
            "Proxy-Authorization: x",
            "TE: gzip",
            "Upgrade: h2c",
            "Content-Length: 3",
        ]);
        assert_eq!(text(&request(&raw, &map, "b", false)), ["Host: b", "Content-Length: 3"]);
    }

    #[test]
    fn an_upgrade_passes_with_its_connection_line() {
        let (raw, map) = head(&["Connection: keep-alive, Upgrade", "Upgrade: websocket"]);
        assert!(is_upgrade(&raw));
        let passed = request(&raw, &map, "b", true);
        assert_eq!(text(&passed)[..2], ["Connection: keep-alive, Upgrade", "Upgrade: websocket"]);
    }

    #[test]
    fn one_framing_goes_on() {
        let (raw, map) = head(&["Transfer-Encoding: chunked", "Content-Length: 3"]);
        assert_eq!(text(&request(&raw, &map, "b", false))[0], "Transfer-Encoding: chunked");
        assert!(!request(&raw, &map, "b", false).contains("content-length"));
        let (lines, framed) = answer(&raw, &map, true, false);
        assert_eq!((text(&lines).len(), framed), (0, true));
        let (raw, map) = head(&["X: 1"]);
        assert!(!answer(&raw, &map, false, false).1);
    }

    #[test]
    fn edits_reach_the_lines_and_leave_the_rest() {
        let (raw, mut map) = head(&["A: 1", "B:2", "a:  3", "C: 4"]);
        assert_eq!(reconcile(&raw, &map), raw);
        map.remove("c");
        map.insert("b", "changed".parse().unwrap());
        map.append("a", "5".parse().unwrap());
        map.insert("new", "6".parse().unwrap());
        let edited = reconcile(&raw, &map);
        let lines: Vec<_> = edited.lines().map(|line| std::str::from_utf8(line).unwrap()).collect();
        assert_eq!(lines[..3], ["A: 1", "B: changed", "a:  3"]);
        let mut last = lines[3..].to_vec();
        last.sort_unstable();
        assert_eq!(last, ["a: 5", "new: 6"]);
    }
}
