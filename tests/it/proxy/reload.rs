//! Other dependencies in place of those that are served, under clients that notice nothing.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use brownout::engine::Engine;
use brownout::measure::Recorder;
use brownout::net::RealClock;
use brownout::proxy::{Error, Gateways, Listener, Options, Proxy, Running};
use tokio::net::TcpListener;

use super::kit::{Peer, Upstream, ask, soon};
use super::shared::{listener, named};

async fn start(listeners: Vec<Listener>) -> Running {
    let engine = Arc::new(Engine::new(1, Vec::new(), Recorder::none()));
    let clock = Arc::new(RealClock::new());
    Proxy::start(listeners, engine, Recorder::none(), clock, Options::default()).await.unwrap()
}

fn reload(running: &mut Running, listeners: Vec<Listener>) {
    let prepared = running.prepare(listeners, &Gateways::default()).unwrap();
    running.commit(prepared);
}

fn on(name: &str, upstream: SocketAddr, listen: SocketAddr) -> Listener {
    Listener { listen: Some(listen), ..listener(name, upstream, true) }
}

async fn body(client: &mut Peer) -> String {
    client.write("GET /x HTTP/1.1\r\nHost: h\r\n\r\n").await;
    let (_, body) = soon(client.message()).await.expect("the connection ended");
    String::from_utf8(body).unwrap().split(' ').next().unwrap().to_owned()
}

#[tokio::test]
async fn a_kept_connection_feels_the_reload_at_its_next_request() {
    let (old, new) = (named("old").await, named("new").await);
    let mut running = start(vec![listener("llm", old.address, true)]).await;
    let address = running.address("llm").unwrap();
    let mut client = Peer::connect(address).await;
    assert_eq!(body(&mut client).await, "old");
    reload(&mut running, vec![on("llm", new.address, address)]);
    assert_eq!(body(&mut client).await, "new");
    assert_eq!(running.address("llm"), Some(address));
    // The same again keeps what there is, connections to the upstream too.
    reload(&mut running, vec![on("llm", new.address, address)]);
    assert_eq!(body(&mut client).await, "new");
    assert_eq!(new.connections(), 1);
    // Another name at the same place: the socket stays, the old connections end after their exchange.
    reload(&mut running, vec![on("gpt", old.address, address)]);
    assert!(!soon(client.more()).await.unwrap());
    assert_eq!(body(&mut Peer::connect(address).await).await, "old");
}

#[tokio::test]
async fn a_stream_under_way_is_not_touched() {
    let go = Arc::new(tokio::sync::Notify::new());
    let wait = Arc::clone(&go);
    let old = Upstream::start(move |mut peer| {
        let wait = Arc::clone(&wait);
        async move {
            peer.message().await;
            peer.write("HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\none").await;
            wait.notified().await;
            peer.write("two").await;
        }
    })
    .await;
    let new = named("new").await;
    let mut running = start(vec![listener("llm", old.address, true)]).await;
    let address = running.address("llm").unwrap();
    let mut client = Peer::connect(address).await;
    client.write("GET /x HTTP/1.1\r\nHost: h\r\n\r\n").await;
    assert!(soon(client.until(b"one")).await.is_some());
    reload(&mut running, vec![on("llm", new.address, address)]);
    assert_eq!(body(&mut Peer::connect(address).await).await, "new");
    go.notify_one();
    assert!(soon(client.until(b"two")).await.is_some());
    assert_eq!(body(&mut client).await, "new", "and then the new one, on the same connection");
}

#[tokio::test]
async fn listeners_come_and_go() {
    let (one, two) = (named("one").await, named("two").await);
    let mut running =
        start(vec![listener("one", one.address, true), listener("two", two.address, true)]).await;
    let (first, second) = (running.address("one").unwrap(), running.address("two").unwrap());
    let mut client = Peer::connect(second).await;
    assert_eq!(body(&mut client).await, "two");
    // They change places, without a port being closed.
    reload(&mut running, vec![on("one", one.address, second), on("two", two.address, first)]);
    assert_eq!(body(&mut Peer::connect(second).await).await, "one");
    assert_eq!(body(&mut Peer::connect(first).await).await, "two");
    let shared = Gateways { shared: Some(([127, 0, 0, 1], 0).into()), ..Gateways::default() };
    let only = vec![listener("one", one.address, false)];
    let prepared = running.prepare(only, &shared).unwrap();
    running.commit(prepared);
    assert!(!soon(client.more()).await.unwrap_or(false), "its connection ends");
    let refused = async {
        while tokio::net::TcpStream::connect(first).await.is_ok() {
            tokio::task::yield_now().await;
        }
    };
    soon(refused).await;
    let (_, gateway) = running.gateway_addresses().next().unwrap();
    let (answer, _) =
        ask(gateway, "GET /one/x HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n").await;
    assert!(answer.contains("one /x"), "{answer}");
    let (answer, _) =
        ask(gateway, "GET /two/x HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n").await;
    assert!(answer.starts_with("HTTP/1.1 404"), "{answer}");
    assert_eq!(running.ended(), None);
    assert!(running.drain(Duration::from_secs(5)).await);
}

#[tokio::test]
async fn what_cannot_be_had_changes_nothing() {
    let (old, new) = (named("old").await, named("new").await);
    let mut running = start(vec![listener("llm", old.address, true)]).await;
    let address = running.address("llm").unwrap();
    let foreign = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let taken = foreign.local_addr().unwrap();
    let listeners = vec![on("llm", new.address, address), on("more", new.address, taken)];
    let error = running.prepare(listeners, &Gateways::default()).unwrap_err();
    assert!(matches!(error, Error::Taken { .. }), "{error}");
    assert_eq!(body(&mut Peer::connect(address).await).await, "old");
    let everywhere = SocketAddr::from(([0, 0, 0, 0], address.port()));
    let error = running.prepare(vec![on("llm", new.address, everywhere)], &Gateways::default());
    let error = error.unwrap_err().to_string();
    assert!(error.contains(&format!("while {address} is listened on")), "{error}");
    assert_eq!(body(&mut Peer::connect(address).await).await, "old");
    // What was prepared and not taken is closed again.
    drop(
        running.prepare(vec![listener("other", new.address, true)], &Gateways::default()).unwrap(),
    );
    reload(&mut running, vec![on("llm", new.address, address)]);
    assert_eq!(body(&mut Peer::connect(address).await).await, "new");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hundred_reloads_refuse_nobody() {
    let (old, new) = (named("a").await, named("b").await);
    let mut running = start(vec![listener("llm", old.address, true)]).await;
    let address = running.address("llm").unwrap();
    let (over, asked) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
    let clients: Vec<_> = (0..4)
        .map(|number| {
            let (over, asked) = (Arc::clone(&over), Arc::clone(&asked));
            tokio::spawn(async move {
                let mut kept = Peer::connect(address).await;
                while !over.load(Ordering::Relaxed) {
                    match number % 2 {
                        0 => drop(body(&mut kept).await),
                        _ => drop(body(&mut Peer::connect(address).await).await),
                    }
                    asked.fetch_add(1, Ordering::Relaxed);
                }
            })
        })
        .collect();
    for round in 0..100 {
        let upstream = if round % 2 == 0 { new.address } else { old.address };
        let before = asked.load(Ordering::Relaxed);
        reload(&mut running, vec![on("llm", upstream, address)]);
        let moved = async {
            while asked.load(Ordering::Relaxed) < before + 5 {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        };
        soon(moved).await;
    }
    over.store(true, Ordering::Relaxed);
    for client in clients {
        soon(client).await.unwrap();
    }
    assert!(new.connections() > 0 && old.connections() > 0);
}
