//! What is a plain head, and where it ends.

use proptest::prelude::*;

use super::*;
use crate::wire::strict;

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
        "Content-Length: 9223372036854775808\r\n",
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
        "GET / HTTP/1.1\r\nHost: a@b\r\n\r\n",
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
    assert_eq!(answered("transfer-encoding: x, chunked\r\n"), Ok((Framing::Chunked, true, true)));
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
    let old = answer(b"HTTP/1.0 200 OK\r\nContent-Length: 5\r\n\r\n", false, |_, _| {}).unwrap();
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
            (Err(_), Ok(None)) => {}
            (Err(_), Ok(Some(end))) => {
                let later = request(&bytes[..end], |_, _| {}).is_err();
                prop_assert!(later);
            }
            (split, whole) => prop_assert_eq!(split.is_ok(), whole.is_ok()),
        }
        if let (Ok(split), Ok(whole)) = (split, whole) {
            prop_assert_eq!(split, whole);
        }
        // What is taken here would not be refused elsewhere.
        if let Ok(Some(end)) = whole
            && request(&bytes[..end], |_, _| {}).is_ok()
        {
            prop_assert_eq!(strict::check(&bytes[..end]), Ok(()));
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
