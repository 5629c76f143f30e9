//! brownout in a test of your own Rust code: a simulated model behind the proxy, a fault that is armed
//! and disarmed in the middle.
//!
//!     cargo run --example in_rust_test

use brownout::config;
use brownout::engine::Arming;
use brownout::experiment::{Ports, Setup, World};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

const EXPERIMENT: &str = "
version: 1
dependencies:
  llm: { kind: openai, listen: 0, simulate: { model: instant } }
faults:
  storm: { target: llm, error: { status: 503, as: overloaded } }
";

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut plan = config::load("experiment.yaml", EXPERIMENT, &config::Options::default())?.plan;
    let setup = Setup { seed: 42, ports: Ports::Free, ..Setup::default() };
    let world = World::start(&mut plan, setup).await?;
    let llm = world.endpoints[0].listen.expect("it has a port");

    assert!(ask(llm).await?.starts_with("HTTP/1.1 200 "));
    world.engine.arm("storm", Arming::default())?;
    assert!(ask(llm).await?.starts_with("HTTP/1.1 503 "));
    world.engine.disarm("storm");
    assert!(ask(llm).await?.starts_with("HTTP/1.1 200 "));

    let (fault, tally) = &world.engine.tallies()[0];
    assert_eq!(tally.hit, 1);
    println!("{fault} hit {} of {} calls", tally.hit, tally.armed);
    Ok(())
}

/// Your code would stand here: a client that was given `http://{llm}/v1` as its base URL.
async fn ask(llm: std::net::SocketAddr) -> std::io::Result<String> {
    let body = r#"{"model": "gpt-4o-mini", "messages": [{"role": "user", "content": "Hi"}]}"#;
    let head = "POST /v1/chat/completions HTTP/1.1\r\nhost: llm\r\nconnection: close";
    let mut stream = TcpStream::connect(llm).await?;
    let request = format!("{head}\r\ncontent-length: {}\r\n\r\n{body}", body.len());
    stream.write_all(request.as_bytes()).await?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await?;
    Ok(answer)
}
