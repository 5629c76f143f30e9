//! What a client says first, read and put back: whether it speaks TLS or HTTP, and for which host.

use std::time::Duration;

use bytes::{Bytes, BytesMut};
use tokio::io::AsyncReadExt as _;
use tokio::time::Instant;

use crate::net::Stream;
use crate::net::secure::Hello;
use crate::wire::host::{self, Host};

/// The rest of a head may take so long, and be so long; then the address decides.
const SLOWEST: Duration = Duration::from_secs(10);
const LONGEST: usize = 64 << 10;
/// The longest method there is room for.
const LONGEST_METHOD: usize = 24;
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// What it is, and the host that it names.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Said {
    Tls(Option<String>),
    Http(Option<String>),
    /// HTTP/2 without TLS.
    Http2(Option<String>),
    /// A call to some other proxy.
    Proxied,
    Other,
    /// Nothing at all so far.
    Silence,
}

/// Hears as much as is needed to tell; a silent client counts as silent after `patience`.
pub(super) async fn listen(mut stream: Stream, patience: Option<Duration>) -> (Said, Stream) {
    let mut bytes = BytesMut::with_capacity(1 << 10);
    let first = stream.read_buf(&mut bytes);
    let first = match patience {
        Some(patience) => match tokio::time::timeout(patience, first).await {
            Ok(read) => read,
            Err(_) => return (Said::Silence, stream),
        },
        None => first.await,
    };
    if !matches!(first, Ok(1..)) {
        return (Said::Other, stream);
    }
    let until = Instant::now() + SLOWEST;
    loop {
        match told(&bytes) {
            Told::Tls => return hello(stream.rewound(bytes.freeze())).await,
            Told::Said(said) => return (said, stream.rewound(bytes.freeze())),
            Told::More if bytes.len() >= LONGEST => break,
            Told::More => {}
        }
        bytes.reserve(1 << 10);
        let more = tokio::time::timeout_at(until, stream.read_buf(&mut bytes)).await;
        if !matches!(more, Ok(Ok(1..))) {
            break;
        }
    }
    let said = if is_http(&bytes) { Said::Http(None) } else { Said::Other };
    (said, stream.rewound(Bytes::from(bytes)))
}

async fn hello(stream: Stream) -> (Said, Stream) {
    match Hello::read(stream).await {
        Ok(hello) => {
            let name = hello.server_name().map(str::to_owned);
            (Said::Tls(name), hello.into_stream())
        }
        Err(none) => (Said::Other, none.stream),
    }
}

enum Told {
    /// More bytes are needed.
    More,
    Tls,
    Said(Said),
}

fn told(bytes: &[u8]) -> Told {
    match bytes {
        [] | [0x16] => return Told::More,
        [0x16, 3, ..] => return Told::Tls,
        _ => {}
    }
    let preface = bytes.len().min(PREFACE.len());
    if bytes[..preface] == PREFACE[..preface] && preface > 3 {
        return if preface == PREFACE.len() { Told::Said(Said::Http2(None)) } else { Told::More };
    }
    if !could_be_http(bytes) {
        return Told::Said(Said::Other);
    }
    Told::Said(match host::host(bytes) {
        Host::Unknown => return Told::More,
        Host::Named(authority) => Said::Http(Some(host::split(authority).0.to_owned())),
        Host::Absent => Said::Http(None),
        Host::Proxied => Said::Proxied,
        Host::NoHttp => Said::Other,
    })
}

/// Whether it begins as a request does: with a method and a blank.
fn could_be_http(bytes: &[u8]) -> bool {
    let bytes = bytes.trim_ascii_start();
    let method = bytes.iter().take_while(|byte| byte.is_ascii_uppercase()).count();
    match bytes.get(method) {
        None => method <= LONGEST_METHOD,
        Some(b' ') => (1..=LONGEST_METHOD).contains(&method),
        Some(_) => false,
    }
}

fn is_http(bytes: &[u8]) -> bool {
    could_be_http(bytes) && memchr::memmem::find(bytes, b" HTTP/1.").is_some()
}

#[cfg(test)]
mod tests {
    use tokio::io::AsyncWriteExt as _;

    use super::*;

    async fn heard(pieces: &[&[u8]]) -> (Said, Vec<u8>) {
        let (mut app, here) = tokio::io::duplex(1 << 16);
        let pieces: Vec<Vec<u8>> = pieces.iter().map(|piece| piece.to_vec()).collect();
        let whole = pieces.concat();
        tokio::spawn(async move {
            for piece in pieces {
                app.write_all(&piece).await.unwrap();
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
            std::future::pending::<()>().await;
        });
        let (said, mut stream) =
            listen(Stream::Memory(Box::new(here)), Some(Duration::from_millis(200))).await;
        let mut back = vec![0; whole.len()];
        stream.read_exact(&mut back).await.unwrap();
        assert_eq!(back, whole, "every byte is still there");
        (said, back)
    }

    #[tokio::test(start_paused = true)]
    async fn first_words_tell_who_is_meant() {
        let host = |name: &str| Some(name.to_owned());
        for (pieces, expected) in [
            (
                &[&b"GET / HTTP/1.1\r\nHost: a.example:80\r\n\r\n"[..]][..],
                Said::Http(host("a.example")),
            ),
            (&[b"PO", b"ST / HTTP/1.1\r\nHo", b"st: [::1]:6333\r\n"], Said::Http(host("::1"))),
            (&[b"GET / HTTP/1.0\r\n\r\n"], Said::Http(None)),
            (&[b"GET / HTTP/1.1\r\nX: "], Said::Http(None)),
            (&[b"CONNECT a:443 HTTP/1.1\r\n\r\n"], Said::Proxied),
            (&[b"PRI * HT", b"TP/2.0\r\n\r\nSM\r\n\r\n"], Said::Http2(None)),
            (&[b"*1\r\n$4\r\nPING\r\n"], Said::Other),
            (&[b"\x00\x00\x00\x08\x04\xd2\x16\x2f"], Said::Other),
            (&[b"\x16\x03\x01\x00\x02zz"], Said::Other),
        ] {
            assert_eq!(heard(pieces).await.0, expected, "{pieces:?}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn silence_is_not_waited_out() {
        let (_app, here) = tokio::io::duplex(64);
        let began = Instant::now();
        let patience = Duration::from_millis(200);
        let (said, _) = listen(Stream::Memory(Box::new(here)), Some(patience)).await;
        assert_eq!(said, Said::Silence);
        assert_eq!(began.elapsed(), patience);
    }
}
