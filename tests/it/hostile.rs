//! What no honest client sends, at every entrance that speaks HTTP/1.1: refused in plain words,
//! never forwarded, while everybody else is served.

mod answers;
mod bodies;
mod heads;
mod many;
mod slow;

use std::net::SocketAddr;
use std::sync::Arc;

use brownout::dialect;
use brownout::proxy::{Gateways, Listener, Options};
use parking_lot::Mutex;

use crate::proxy::kit::{Bench, Peer, Script, Upstream, soon};

/// An upstream that keeps all bytes it gets and answers each whole request.
pub(crate) struct Witness {
    pub(crate) upstream: Upstream,
    seen: Arc<Mutex<Vec<u8>>>,
}

pub(crate) const ANSWER: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";

impl Witness {
    pub(crate) async fn start() -> Self {
        let seen = Arc::<Mutex<Vec<u8>>>::default();
        let kept = Arc::clone(&seen);
        let upstream = Upstream::start(move |mut peer: Peer| {
            let kept = Arc::clone(&kept);
            async move {
                while let Ok(true) = peer.more().await {
                    let bytes = std::mem::take(&mut peer.buffer);
                    kept.lock().extend_from_slice(&bytes);
                    let ends = bytes.ends_with(b"\r\n\r\n") || bytes.ends_with(b"body");
                    if ends {
                        peer.write(ANSWER).await;
                    }
                }
            }
        })
        .await;
        Self { upstream, seen }
    }

    pub(crate) fn seen(&self) -> String {
        String::from_utf8_lossy(&self.seen.lock()).into_owned()
    }
}

/// A way in.
pub(crate) struct Entrance {
    pub(crate) name: &'static str,
    pub(crate) address: SocketAddr,
    /// Sent before anything else, and answered with 200.
    connect: Option<String>,
    /// What stands in front of the path.
    origin: String,
}

impl Entrance {
    /// A connection on which HTTP is spoken.
    pub(crate) async fn open(&self) -> Peer {
        let mut peer = Peer::connect(self.address).await;
        if let Some(connect) = &self.connect {
            peer.write(connect).await;
            soon(peer.until(b"\r\n\r\n")).await.unwrap();
        }
        peer
    }

    /// The request as it is written here.
    pub(crate) fn written(&self, request: &[u8]) -> Vec<u8> {
        let target = memchr::memmem::find(request, b" /");
        match target {
            Some(at) if !self.origin.is_empty() => {
                [&request[..=at], self.origin.as_bytes(), &request[at + 1..]].concat()
            }
            _ => request.to_vec(),
        }
    }
}

/// A proxy with every way in to the same dependency, passing or behind an armed fault that changes
/// nothing.
pub(crate) struct Scene {
    pub(crate) witness: Witness,
    pub(crate) entrances: Vec<Entrance>,
    _benches: Vec<Bench>,
}

impl Scene {
    pub(crate) async fn start() -> Self {
        let witness = Witness::start().await;
        let upstream = witness.upstream.address;
        let mut entrances = Vec::new();
        let mut benches = Vec::new();
        for armed in [false, true] {
            let kind = dialect::by_kind("openai").unwrap();
            let listener =
                Listener::new("llm", kind, format!("http://{upstream}").parse().unwrap());
            let forward = Some(SocketAddr::from(([127, 0, 0, 1], 0)));
            let gateways = Gateways { forward, ..Gateways::default() };
            let options = Options { gateways, ..Options::default() };
            let bench = Bench::of(listener, Script::on_request(|_, _| {}), options).await;
            if armed {
                bench.arm();
            }
            let running = bench.running.as_ref().unwrap();
            let forward = running.gateway_addresses().next().unwrap().1;
            let names = match armed {
                false => ["reverse", "absolute-form", "tunnel"],
                true => ["reverse, armed", "absolute-form, armed", "tunnel, armed"],
            };
            let connect = format!("CONNECT {upstream} HTTP/1.1\r\nHost: {upstream}\r\n\r\n");
            let ways = [
                (bench.address, None, String::new()),
                (forward, None, format!("http://{upstream}")),
                (forward, Some(connect), String::new()),
            ];
            for (name, (address, connect, origin)) in names.into_iter().zip(ways) {
                entrances.push(Entrance { name, address, connect, origin });
            }
            benches.push(bench);
        }
        Self { witness, entrances, _benches: benches }
    }

    /// An honest request gets its answer.
    pub(crate) async fn serves(&self, entrance: &Entrance) {
        let mut peer = entrance.open().await;
        let honest = b"GET /honest HTTP/1.1\r\nHost: h\r\n\r\n";
        peer.write(entrance.written(honest)).await;
        let (head, body) = soon(peer.message()).await.expect(entrance.name);
        assert!(head.starts_with("HTTP/1.1 200 "), "{}: {head}", entrance.name);
        assert_eq!(body, b"ok");
    }
}

/// What came back on a connection: everything until it ends.
pub(crate) async fn all(peer: &mut Peer) -> String {
    while soon(peer.more()).await.unwrap_or(false) {}
    String::from_utf8_lossy(&std::mem::take(&mut peer.buffer)).into_owned()
}
