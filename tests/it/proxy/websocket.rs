//! WebSockets on real sockets: what passes, how they end, and what a real client sees of faults.

use std::io::ErrorKind;
use std::time::Duration;

use brownout::exchange::{Event, Grain, Item};
use brownout::fault::Ending;
use brownout::measure::CallEnd;
use brownout::wire::websocket::{Kind, frame};
use futures_util::{SinkExt, StreamExt};
use tokio_tungstenite::tungstenite::{Message, protocol::frame::coding::CloseCode};

use super::kit::{Bench, Peer, Script, Upstream, soon};

const ASK: &str = "GET /v1/realtime?model=m HTTP/1.1\r\nHost: x\r\nConnection: keep-alive, Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Extensions: permessage-deflate\r\n\r\n";
const OPEN: &str = "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n";

/// What a frame is when an app sends it.
fn masked(text: &str) -> Vec<u8> {
    frame(Kind::Text, text.as_bytes(), Some([1, 2, 3, 4])).to_vec()
}

fn plain(text: &str) -> Vec<u8> {
    frame(Kind::Text, text.as_bytes(), None).to_vec()
}

fn close(code: u16) -> Vec<u8> {
    frame(Kind::Close, &code.to_be_bytes(), None).to_vec()
}

/// An upstream that opens a socket, says this and waits for the other side to end.
async fn saying(said: Vec<u8>) -> Upstream {
    Upstream::start(move |mut peer| {
        let said = said.clone();
        async move {
            peer.until(b"\r\n\r\n").await;
            peer.write([OPEN.as_bytes(), &said].concat()).await;
            while peer.more().await.unwrap_or(false) {}
        }
    })
    .await
}

/// An upstream that sends back every byte.
async fn echo() -> Upstream {
    Upstream::start(|mut peer| async move {
        peer.until(b"\r\n\r\n").await;
        peer.write(OPEN).await;
        loop {
            let bytes = std::mem::take(&mut peer.buffer);
            if !bytes.is_empty() {
                peer.write(bytes).await;
            }
            if !peer.more().await.unwrap_or(false) {
                return;
            }
        }
    })
    .await
}

/// An upstream that speaks the protocol and sends back every message.
async fn conversing() -> Upstream {
    Upstream::start(|peer| async move {
        let Ok(mut socket) = tokio_tungstenite::accept_async(peer.stream).await else { return };
        while let Some(Ok(message)) = socket.next().await {
            if (message.is_text() || message.is_binary()) && socket.send(message).await.is_err() {
                return;
            }
        }
    })
    .await
}

/// Everything until the end, as bytes, and how it ends.
async fn rest(peer: &mut Peer) -> (Vec<u8>, std::io::Result<()>) {
    let ended = loop {
        match soon(peer.more()).await {
            Ok(true) => {}
            Ok(false) => break Ok(()),
            Err(error) => break Err(error),
        }
    };
    (std::mem::take(&mut peer.buffer), ended)
}

async fn open(bench: &Bench) -> Peer {
    let mut app = Peer::connect(bench.address).await;
    app.write(ASK).await;
    let head = soon(app.until(b"\r\n\r\n")).await.unwrap();
    assert_eq!(String::from_utf8(head).unwrap(), OPEN);
    app
}

#[tokio::test]
async fn an_untouched_socket_passes_byte_for_byte_both_ways() {
    let upstream = echo().await;
    let mut bench = Bench::passing(upstream.address).await;
    let mut app = Peer::connect(bench.address).await;
    // Rubbish is passed on as it is, the first of it right behind the head.
    let mut sent: Vec<u8> = (0..200_000_u32).map(|index| (index * 7 + index / 251) as u8).collect();
    sent.extend(masked("hello"));
    app.write([ASK.as_bytes(), &sent[..10]].concat()).await;
    soon(app.until(b"\r\n\r\n")).await.unwrap();
    app.write(&sent[10..]).await;
    while app.buffer.len() < sent.len() {
        assert!(soon(app.more()).await.unwrap());
    }
    assert_eq!(app.buffer, sent);
    drop(app);
    let call = bench.call().await;
    assert_eq!((call.status, call.bytes), (Some(101), sent.len() as u64));
    assert_eq!(call.ended, CallEnd::ClientGone, "nobody said goodbye");
}

#[tokio::test]
async fn an_end_is_passed_on_as_it_comes() {
    for (said, ended) in
        [(close(1001), CallEnd::Complete), (plain("no goodbye"), CallEnd::UpstreamCut)]
    {
        let upstream = Upstream::start(move |mut peer| {
            let said = said.clone();
            async move {
                peer.until(b"\r\n\r\n").await;
                peer.write([OPEN.as_bytes(), &said].concat()).await;
            }
        })
        .await;
        let mut bench = Bench::passing(upstream.address).await;
        let mut app = open(&bench).await;
        assert!(rest(&mut app).await.1.is_ok());
        drop(app);
        assert_eq!(bench.call().await.ended, ended);
    }
    let upstream = Upstream::start(|mut peer| async move {
        peer.until(b"\r\n\r\n").await;
        peer.write([OPEN.as_bytes(), &plain("x")].concat()).await;
        peer.until(b"reset").await;
        peer.stream.set_zero_linger().unwrap();
    })
    .await;
    let mut bench = Bench::passing(upstream.address).await;
    let mut app = open(&bench).await;
    app.write("reset").await;
    let error = rest(&mut app).await.1.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::ConnectionReset);
    assert_eq!(bench.call().await.ended, CallEnd::UpstreamCut);
}

#[tokio::test]
async fn an_app_that_goes_away_is_told_to_the_upstream() {
    let (told, mut gone) = tokio::sync::mpsc::unbounded_channel();
    let upstream = Upstream::start(move |mut peer| {
        let told = told.clone();
        async move {
            peer.until(b"\r\n\r\n").await;
            peer.write(OPEN).await;
            let ended = loop {
                match peer.more().await {
                    Ok(true) => {}
                    Ok(false) => break None,
                    Err(error) => break Some(error.kind()),
                }
            };
            told.send(ended).unwrap();
        }
    })
    .await;
    let mut bench = Bench::passing(upstream.address).await;
    drop(open(&bench).await);
    assert_eq!(soon(gone.recv()).await.unwrap(), None, "a FIN");
    let app = open(&bench).await;
    app.stream.set_zero_linger().unwrap();
    drop(app);
    assert_eq!(soon(gone.recv()).await.unwrap(), Some(ErrorKind::ConnectionReset));
    assert_eq!(bench.call().await.ended, CallEnd::ClientGone);
    assert_eq!(bench.call().await.ended, CallEnd::ClientGone);
}

#[tokio::test]
async fn each_ending_is_what_it_says_on_the_wire() {
    let said = [plain("one"), plain("two")].concat();
    for (ending, told) in [
        (Ending::CloseFrame(1011), close(1011)),
        (Ending::Clean, close(1000)),
        (Ending::Close, Vec::new()),
        (Ending::GoAway, Vec::new()),
    ] {
        let script = Script::on_item(Grain::Event, move |index, item, out| match index {
            0 => out.send(item),
            _ => out.end(ending),
        });
        let upstream = saying(said.clone()).await;
        let mut bench = Bench::faulty(upstream.address, script).await;
        let mut app = open(&bench).await;
        let (bytes, ended) = rest(&mut app).await;
        assert_eq!(bytes, [plain("one"), told].concat(), "{ending:?}");
        assert!(ended.is_ok());
        drop(app);
        assert_eq!(bench.call().await.ended, CallEnd::Injected);
    }
    let script = Script::on_item(Grain::Event, |_, _, out| out.end(Ending::Reset));
    let bench = Bench::faulty(saying(said).await.address, script).await;
    let mut app = open(&bench).await;
    assert_eq!(rest(&mut app).await.1.unwrap_err().kind(), ErrorKind::ConnectionReset);
}

#[tokio::test]
async fn extensions_are_asked_for_unless_messages_are_to_be_read() {
    let (told, mut heads) = tokio::sync::mpsc::unbounded_channel();
    let upstream = Upstream::start(move |mut peer| {
        let told = told.clone();
        async move {
            let head = peer.until(b"\r\n\r\n").await.unwrap();
            peer.write(OPEN).await;
            told.send(String::from_utf8(head).unwrap()).unwrap();
        }
    })
    .await;
    let script = Script::on_item(Grain::Event, |_, item, out| out.send(item));
    let bench =
        Bench::start(&format!("http://{}", upstream.address), script, Default::default()).await;
    let mut app = open(&bench).await;
    let host = format!("Host: {}", upstream.address);
    assert_eq!(soon(heads.recv()).await.unwrap(), ASK.replace("Host: x", &host));
    let _ = rest(&mut app).await;
    bench.arm();
    drop(open(&bench).await);
    let line = "Sec-WebSocket-Extensions: permessage-deflate\r\n";
    assert_eq!(soon(heads.recv()).await.unwrap(), ASK.replace("Host: x", &host).replace(line, ""));
}

#[tokio::test]
async fn a_fault_can_answer_the_handshake() {
    let upstream = echo().await;
    let refusal = brownout::dialect::Answer {
        status: http::StatusCode::SERVICE_UNAVAILABLE,
        headers: Vec::new(),
        body: "busy".into(),
    };
    let script = Script::on_request(move |_, out| out.answer(refusal.clone()));
    let mut bench = Bench::faulty(upstream.address, script).await;
    let mut app = Peer::connect(bench.address).await;
    app.write(ASK).await;
    let (head, body) = soon(app.message()).await.unwrap();
    assert!(head.starts_with("HTTP/1.1 503") && body == b"busy", "{head}");
    assert_eq!(upstream.connections(), 0);
    drop(app);
    assert_eq!((bench.call().await.status, bench.engine.tallies()[0].1.hit), (Some(503), 1));
}

#[tokio::test]
async fn a_refused_dependency_resets_its_open_sockets() {
    let upstream = echo().await;
    let bench = Bench::start(
        &format!("http://{}", upstream.address),
        Script::refusing(),
        Default::default(),
    )
    .await;
    let mut app = open(&bench).await;
    app.write(masked("x")).await;
    soon(app.until(&masked("x"))).await.unwrap();
    bench.arm();
    assert_eq!(rest(&mut app).await.1.unwrap_err().kind(), ErrorKind::ConnectionReset);
}

/// Sends and receives so many messages, through a proxy with this fault armed or without one.
async fn converse(bench: &Bench, count: usize) {
    let url = format!("ws://{}/v1/realtime", bench.address);
    let (socket, _) = soon(tokio_tungstenite::connect_async(url)).await.unwrap();
    let (mut sender, mut receiver) = socket.split();
    let sent = async {
        for index in 0..count {
            let message = match index % 3 {
                0 => Message::text(format!("message {index}")),
                1 => Message::binary(vec![index as u8; index * 37 % 70_000]),
                _ => Message::text("ü".repeat(index % 4000)),
            };
            sender.send(message).await.unwrap();
            if index % 10 == 0 {
                sender.send(Message::Ping(vec![1; index % 126].into())).await.unwrap();
            }
        }
        sender
    };
    let received = async {
        let mut seen = 0;
        while seen < count {
            match soon(receiver.next()).await.unwrap().unwrap() {
                Message::Text(text) if seen % 3 == 0 => assert_eq!(text, format!("message {seen}")),
                Message::Text(text) => assert_eq!(text.chars().count(), seen % 4000),
                Message::Binary(bytes) => assert_eq!(bytes.len(), seen * 37 % 70_000),
                _ => continue,
            }
            seen += 1;
        }
        receiver
    };
    let (mut sender, mut receiver) = tokio::join!(sent, received);
    sender.close().await.unwrap();
    while let Some(Ok(message)) = soon(receiver.next()).await {
        if let Message::Close(Some(frame)) = message {
            assert_eq!(frame.code, CloseCode::Normal);
        }
    }
}

#[tokio::test]
async fn a_thousand_messages_each_way_lose_nothing() {
    let upstream = conversing().await;
    let mut bench = Bench::passing(upstream.address).await;
    converse(&bench, 1000).await;
    assert_eq!(bench.call().await.ended, CallEnd::Complete);
    let script = Script::on_item(Grain::Event, |_, item, out| {
        out.wait(Duration::from_micros(50));
        out.send(item);
    });
    let mut bench = Bench::faulty(upstream.address, script).await;
    converse(&bench, 1000).await;
    let call = bench.call().await;
    assert_eq!((call.ended, call.faults), (CallEnd::Complete, vec!["test".into()]));
}

#[tokio::test]
async fn a_fault_that_comes_and_goes_loses_nothing() {
    let upstream = conversing().await;
    let script = Script::on_item(Grain::Event, |_, item, out| {
        out.hit();
        out.send(item);
    });
    let bench =
        Bench::start(&format!("http://{}", upstream.address), script, Default::default()).await;
    let engine = std::sync::Arc::clone(&bench.engine);
    let flapping = tokio::spawn(async move {
        loop {
            engine.arm("test", brownout::engine::Arming::default()).unwrap();
            tokio::time::sleep(Duration::from_millis(2)).await;
            engine.disarm("test");
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    });
    converse(&bench, 1000).await;
    flapping.abort();
    assert!(bench.engine.tallies()[0].1.hit > 0);
}

#[tokio::test]
async fn an_edited_message_keeps_the_socket_valid() {
    let script = Script::on_item(Grain::Event, |index, item, out| match item {
        Item::Event(event) if index == 1 => {
            out.hit();
            out.send(Item::Event(event.with_data("edited")));
            out.send(Item::Event(Event::socket("binary", [1, 2, 3])));
        }
        item => out.send(item),
    });
    let upstream = conversing().await;
    let bench = Bench::faulty(upstream.address, script).await;
    let url = format!("ws://{}/", bench.address);
    let (mut socket, _) = soon(tokio_tungstenite::connect_async(url)).await.unwrap();
    for text in ["a", "b", "c"] {
        socket.send(Message::text(text)).await.unwrap();
    }
    let mut seen = Vec::new();
    while seen.len() < 4 {
        seen.push(soon(socket.next()).await.unwrap().unwrap());
    }
    let text = Message::text;
    assert_eq!(seen, [text("a"), text("edited"), Message::binary(vec![1, 2, 3]), text("c")]);
}
