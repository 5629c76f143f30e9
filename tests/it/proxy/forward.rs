//! The forward proxy on real sockets.

mod limits;
mod plain;
mod raw;
mod secured;
mod tunnels;

use std::net::SocketAddr;

use brownout::dialect;
use brownout::proxy::{Gateways, Listener, Options};

use super::kit::{Bench, Script};

/// Options with a forward proxy on a free port.
fn options() -> Options {
    let forward = Some(SocketAddr::from(([127, 0, 0, 1], 0)));
    Options { gateways: Gateways { forward, ..Gateways::default() }, ..Options::default() }
}

/// Where the forward proxy of a bench is.
fn gateway(bench: &Bench) -> SocketAddr {
    let running = bench.running.as_ref().unwrap();
    running.gateway_addresses().find(|(name, _)| *name == "forward").unwrap().1
}

/// A forward proxy that knows this upstream as the dependency `llm`, reached through it alone.
async fn start(upstream: &str, script: Script, hosts: &[&str]) -> (Bench, SocketAddr) {
    let mut listener =
        Listener::new("llm", dialect::by_kind("openai").unwrap(), upstream.parse().unwrap());
    listener.hosts = hosts.iter().map(|host| (*host).to_owned()).collect();
    let bench = Bench::of(listener, script, options()).await;
    let address = gateway(&bench);
    (bench, address)
}
