//! The classes of Autobahn's test suite for WebSocket servers, asked of a conforming server directly
//! and through the proxy, with nothing armed and with a fault that reads every message: the answers
//! are the same, byte for byte.

use std::net::SocketAddr;

use brownout::exchange::Grain;
use brownout::wire::websocket::{Kind, frame};
use futures_util::{SinkExt, StreamExt};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::kit::{Bench, Peer, Script, Upstream, soon};

const ASK: &str = "GET / HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n";
const MASK: Option<[u8; 4]> = Some([0x37, 0xfa, 0x21, 0x3d]);

/// An echo server that lets its library decide what is right.
async fn server() -> Upstream {
    Upstream::start(|peer| async move {
        let Ok(mut socket) = tokio_tungstenite::accept_async(peer.stream).await else { return };
        while let Some(Ok(message)) = socket.next().await {
            if (message.is_text() || message.is_binary()) && socket.send(message).await.is_err() {
                break;
            }
        }
        // An end in good order, whatever is still to be read.
        let stream = socket.get_mut();
        let _ = stream.shutdown().await;
        let mut scratch = [0; 4096];
        while matches!(stream.read(&mut scratch).await, Ok(1..)) {}
    })
    .await
}

/// A frame with this first byte: fragments, reserved bits, odd opcodes.
fn raw(first: u8, payload: &[u8]) -> Vec<u8> {
    let mut frame = frame(Kind::Binary, payload, MASK).to_vec();
    frame[0] = first;
    frame
}

fn close(code: u16, reason: &str) -> Vec<u8> {
    raw(0x88, &[&code.to_be_bytes()[..], reason.as_bytes()].concat())
}

const TEXT: u8 = 0x81;
const BINARY: u8 = 0x82;
const PING: u8 = 0x89;
const PONG: u8 = 0x8a;
const FIRST: u8 = 0x01;
const NEXT: u8 = 0x00;
const LAST: u8 = 0x80;

/// What a client says, by Autobahn's numbers.
fn cases() -> Vec<(String, Vec<u8>)> {
    let mut cases: Vec<(String, Vec<u8>)> = Vec::new();
    let mut case = |name: &str, frames: &[Vec<u8>]| cases.push((name.to_owned(), frames.concat()));
    for length in [0, 125, 126, 127, 128, 65_535, 65_536, 1 << 20] {
        case(&format!("1.1 text of {length}"), &[raw(TEXT, &vec![b'*'; length])]);
        case(&format!("1.2 binary of {length}"), &[raw(BINARY, &vec![0xfe; length])]);
    }
    for length in [0, 5, 125, 126] {
        case(&format!("2 ping of {length}"), &[raw(PING, &vec![0xfe; length])]);
    }
    case("2.7 unasked pong", &[raw(PONG, b"x"), raw(PING, b"y")]);
    case("2.10 many pings", &(0..10).map(|n| raw(PING, &[n])).collect::<Vec<_>>());
    for bits in [0x40, 0x20, 0x10, 0x70] {
        case(
            &format!("3 reserved bits {bits:x}"),
            &[raw(TEXT, b"a"), raw(TEXT | bits, b"b"), raw(PING, b"")],
        );
        case(&format!("3 on a ping {bits:x}"), &[raw(PING | bits, b"b")]);
    }
    for opcode in [3, 4, 5, 6, 7, 11, 12, 13, 14, 15] {
        case(
            &format!("4 opcode {opcode}"),
            &[raw(TEXT, b"a"), raw(0x80 | opcode, b"b"), raw(PING, b"")],
        );
    }
    case("5.1 ping in fragments", &[raw(0x09, b"a"), raw(LAST, b"b")]);
    case("5.3 text in fragments", &[raw(FIRST, b"frag"), raw(LAST, b"ment")]);
    case("5.6 with a ping", &[raw(FIRST, b"frag"), raw(PING, b"p"), raw(LAST, b"ment")]);
    case("5.9 nothing to go on with", &[raw(LAST, b"x"), raw(TEXT, b"y")]);
    case("5.15 again", &[raw(FIRST, b"a"), raw(LAST, b"b"), raw(NEXT, b"c"), raw(TEXT, b"d")]);
    case("5.18 text in text", &[raw(FIRST, b"a"), raw(TEXT, b"b")]);
    let many =
        [raw(FIRST, b"a"), raw(NEXT, b"b"), raw(PING, b"1"), raw(NEXT, b"c"), raw(NEXT, b"d")];
    case("5.19 many", &[many.concat(), raw(PING, b"2"), raw(LAST, b"e")]);
    let greek = "κόσμε".as_bytes();
    case("6.1 empty fragments", &[raw(FIRST, b""), raw(NEXT, b""), raw(LAST, b"")]);
    case("6.2 utf-8", &[raw(TEXT, "Hello-µ@ßöäüàá-UTF-8!!".as_bytes())]);
    case("6.2 split in a character", &[raw(FIRST, &greek[..3]), raw(LAST, &greek[3..])]);
    case("6.3 no utf-8", &[raw(TEXT, b"\xce\xba\xed\xa0\x80edited")]);
    case("6.4 no utf-8 in the last", &[raw(FIRST, greek), raw(LAST, b"\xf4\x90\x80\x80")]);
    case("6.5 noncharacters", &[raw(TEXT, "\u{ffff}\u{10ffff}".as_bytes())]);
    case("7.1 twice", &[close(1000, ""), close(1000, "")]);
    case("7.1 then a ping", &[close(1000, ""), raw(PING, b"")]);
    case("7.1 then text", &[raw(TEXT, b"a"), close(1000, ""), raw(TEXT, b"late")]);
    case("7.3 empty", &[raw(0x88, b"")]);
    case("7.3 one byte", &[raw(0x88, b"a")]);
    case("7.3 long reason", &[close(1000, &"*".repeat(123))]);
    case("7.3 too long", &[close(1000, &"*".repeat(124))]);
    case("7.5 reason no utf-8", &[raw(0x88, b"\x03\xe8\xce\xba\xed\xa0\x80")]);
    for code in [1000, 1001, 1002, 1003, 1007, 1011, 3000, 3999, 4000, 4999] {
        case(&format!("7.7 code {code}"), &[close(code, "")]);
    }
    for code in [0, 999, 1004, 1005, 1006, 1016, 1100, 2000, 2999, 5000, 65_535] {
        case(&format!("7.9 code {code}"), &[close(code, "")]);
    }
    case("9 above the cap", &[raw(BINARY, &vec![0xfe; 17 << 20])]);
    let parts: Vec<Vec<u8>> =
        (0..1000).map(|index| raw(if index == 0 { 0x02 } else { NEXT }, &[7; 1000])).collect();
    case("9.4 in fragments", &[parts.concat(), raw(LAST, b"")]);
    case("10.1 small ones", &(0..500).map(|_| raw(TEXT, b"*")).collect::<Vec<_>>());
    case("not masked", &[raw(TEXT, b"a"), frame(Kind::Text, b"b", None).to_vec(), raw(PING, b"")]);
    case(
        "a length that is not the shortest",
        &[vec![TEXT, 0x80 | 126, 0, 1, 1, 2, 3, 4, b'a' ^ 1]],
    );
    case("rubbish", &[b"GET / HTTP/1.1\r\n\r\n".to_vec()]);
    cases
}

/// What a server says to these bytes, which come in pieces of this size.
async fn answer(address: SocketAddr, said: &[u8], piece: usize) -> Vec<u8> {
    let mut peer = Peer::connect(address).await;
    peer.write(ASK).await;
    soon(peer.until(b"\r\n\r\n")).await.unwrap();
    let early = std::mem::take(&mut peer.buffer);
    let (mut reader, mut writer) = peer.stream.into_split();
    let bytes = [said, &close(1000, "")].concat();
    let written = tokio::spawn(async move {
        for piece in bytes.chunks(piece) {
            if writer.write_all(piece).await.is_err() {
                break;
            }
        }
        writer
    });
    let mut heard = early;
    while matches!(soon(reader.read_buf(&mut heard)).await, Ok(1..)) {}
    drop(written.await);
    heard
}

#[tokio::test]
async fn the_proxy_fails_nothing_that_the_server_passes() {
    let server = server().await;
    let passing = Bench::passing(server.address).await;
    let script = Script::on_item(Grain::Event, |_, item, out| out.send(item));
    let reading = Bench::faulty(server.address, script).await;
    let cases = cases();
    assert!(cases.len() > 80, "{}", cases.len());
    for (name, said) in cases {
        let pieces = if said.len() < 2000 { vec![usize::MAX, 1] } else { vec![usize::MAX, 65_537] };
        for piece in pieces {
            let direct = answer(server.address, &said, piece).await;
            // An unmasked echo lacks the four bytes of the mask.
            assert!(!name.starts_with("1.") || direct.len() >= said.len() - 4, "{name}");
            for (how, bench) in [("untouched", &passing), ("read", &reading)] {
                let proxied = answer(bench.address, &said, piece).await;
                assert!(
                    proxied == direct,
                    "{name}, {how}: {} of {} bytes",
                    proxied.len(),
                    direct.len()
                );
            }
        }
    }
}
