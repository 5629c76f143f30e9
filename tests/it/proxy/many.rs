//! Many exchanges at once: nothing is lost, nothing is early.

use std::time::Duration;

use super::kit::{Bench, Peer, Script, Upstream};

const REQUEST: &str = "GET / HTTP/1.1\r\nHost: x\r\n\r\n";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn five_hundred_delays_are_never_early() {
    let upstream = Upstream::answering(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok").await;
    for delay in [5, 20].map(Duration::from_millis) {
        let script = Script::on_request(move |_, out| out.wait(delay));
        let mut bench = Bench::faulty(upstream.address, script).await;
        let address = bench.address;
        let clients: Vec<_> = (0..500)
            .map(|_| {
                tokio::spawn(async move {
                    let mut client = Peer::connect(address).await;
                    for _ in 0..3 {
                        client.write(REQUEST).await;
                        assert_eq!(client.message().await.unwrap().1, b"ok");
                    }
                })
            })
            .collect();
        for client in clients {
            tokio::time::timeout(Duration::from_secs(60), client).await.unwrap().unwrap();
        }
        let mut late = Vec::new();
        for _ in 0..1500 {
            let call = bench.call().await;
            let head = call.head.unwrap() - call.at;
            assert!(head >= delay && call.injected_delay >= delay, "{head:?} for {delay:?}");
            late.push(call.injected_delay - delay);
        }
        late.sort_unstable();
        println!("{delay:?}: late by p50 {:?}, p99 {:?}", late[750], late[1485]);
        assert!(late[750] < Duration::from_secs(1), "p50 late by {:?}", late[750]);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_thousand_streams_lose_nothing() {
    const STREAMS: usize = 1000;
    const EVENTS: usize = 20;
    let upstream = Upstream::start(|mut peer| async move {
        while peer.message().await.is_some() {
            peer.write("HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n").await;
            for number in 0..EVENTS {
                peer.write(format!("b\r\ndata: {number:03}\n\n\r\n")).await;
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
            peer.write("0\r\n\r\n").await;
        }
    })
    .await;
    let whole: String = (0..EVENTS).map(|number| format!("data: {number:03}\n\n")).collect();
    let bench = Bench::passing(upstream.address).await;
    let address = bench.address;
    let clients: Vec<_> = (0..STREAMS)
        .map(|_| {
            let whole = whole.clone();
            tokio::spawn(async move {
                let mut client = Peer::connect(address).await;
                client.write(REQUEST).await;
                let (_, body) = client.message().await.unwrap();
                assert_eq!(String::from_utf8(body).unwrap(), whole);
            })
        })
        .collect();
    for client in clients {
        tokio::time::timeout(Duration::from_secs(60), client).await.unwrap().unwrap();
    }
}
