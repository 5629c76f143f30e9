//! A dependency that a fault refuses looks as if nothing ran there.

use std::io::ErrorKind;
use std::time::Duration;

use tokio::net::TcpStream;

use super::kit::{Bench, Peer, Script, Upstream, soon};

const REQUEST: &str = "GET / HTTP/1.1\r\nHost: x\r\n\r\n";

#[tokio::test]
async fn connections_are_refused_while_it_lasts() {
    let upstream = Upstream::answering(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok").await;
    let bench =
        Bench::start(&format!("http://{}", upstream.address), Script::refusing(), <_>::default())
            .await;
    let mut kept = Peer::connect(bench.address).await;
    kept.write(REQUEST).await;
    soon(kept.message()).await.unwrap();

    bench.arm();
    let refused = async {
        while let Ok(stream) = TcpStream::connect(bench.address).await {
            drop(stream);
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
        TcpStream::connect(bench.address).await.unwrap_err()
    };
    assert_eq!(soon(refused).await.kind(), ErrorKind::ConnectionRefused);
    kept.write(REQUEST).await;
    let (got, ended) = soon(kept.rest()).await;
    assert_eq!(got, "");
    assert_eq!(ended.unwrap_err().kind(), ErrorKind::ConnectionReset);
    let tally = &bench.engine.tallies()[0].1;
    assert!(tally.hit >= 2, "{tally:?}");

    bench.engine.disarm("test");
    let back = async {
        loop {
            if let Ok(stream) = TcpStream::connect(bench.address).await {
                return Peer::new(stream);
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    let mut client = soon(back).await;
    client.write(REQUEST).await;
    assert_eq!(soon(client.message()).await.unwrap().1, b"ok");
}
